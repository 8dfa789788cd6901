"""The page's style sheet."""

from __future__ import annotations

from typing import Final

# Text and bars keep 4.5:1 and 3:1 on their backgrounds in both schemes (WCAG 2.2, 1.4.3 and 1.4.11).
STYLE: Final = """
:root{--ground:#fff;--panel:#f5f6f8;--text:#1b2027;--quiet:#59616d;--line:#dde1e6;--more:#2563b0;--less:#b3401f}
@media(prefers-color-scheme:dark){:root{--ground:#14171b;--panel:#1d2127;--text:#e8eaed;--quiet:#a2abb7;
--line:#333a43;--more:#6ea8ec;--less:#ee8a66}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:62rem;padding:2rem 1.25rem 4rem;background:var(--ground);color:var(--text);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 .4rem}
h2{font-size:1.25rem;margin:0 0 .2rem}
section{margin-top:2.75rem}
.note{margin:0 0 1rem;color:var(--quiet)}
.tiles{display:flex;flex-wrap:wrap;gap:.75rem;margin:1.5rem 0 0}
.tiles div{flex:1 0 auto;min-width:10rem;background:var(--panel);border-radius:.5rem;padding:.9rem 1rem}
.tiles dt{color:var(--quiet);font-size:.875rem}
.tiles dd{margin:0;font-size:1.5rem;font-weight:600;font-variant-numeric:tabular-nums}
.wide{overflow-x:auto;margin:0}
figcaption{color:var(--quiet);font-size:.875rem}
figure svg{display:block;width:100%;min-width:40rem;height:auto}
figure text{font-size:12px;fill:var(--quiet)}
.mark{text-anchor:end}
.label{text-anchor:middle}
.grid{stroke:var(--line)}
.zero{stroke:var(--quiet)}
.more{fill:var(--more)}
.less{fill:var(--less)}
rect:hover{opacity:.75}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.35rem .75rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child{text-align:left;padding-left:0;font-weight:400;white-space:pre-wrap;
overflow-wrap:break-word;min-width:7rem;max-width:20rem}
td:last-child,thead th:last-child{padding-right:0}
thead th,thead th:first-child{color:var(--quiet);font-size:.875rem;font-weight:600}
tfoot th:first-child,tfoot td{font-weight:600;border-bottom:0;border-top:2px solid var(--line)}
.rest{color:var(--quiet)}
.strip{display:block;width:100%;min-width:6rem;height:.7rem}
summary{cursor:pointer;padding:.5rem 0;color:var(--more)}
:focus-visible{outline:2px solid var(--more);outline-offset:2px}
.unseen{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
@media(max-width:44rem){.strip{min-width:3rem}th,td{padding:.35rem .5rem}figure svg{min-width:52rem}}
@media print{body{max-width:none;padding:0}section{break-inside:avoid-page}.wide{overflow:visible}}
"""
