"""What would go wrong with a deploy, found before it: `offload preflight ENV`.

`calls` is everything that is asked of AWS, `facts` asks it, and the other modules decide by what was answered.
"""
