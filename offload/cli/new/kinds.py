"""The kinds of parts that `offload new` writes: an event, a consumer, a job, a webhook, an integration, a table.

Each decides what is written, by an app and the arguments of its command, and raises Failure for what cannot be.
"""

from __future__ import annotations

import re
from typing import Final

from offload.cli.deployment.failure import Failure
from offload.cli.new.edit import with_argument, with_call_before, with_item
from offload.cli.new.parts import App, Part, class_name, module_name
from offload.cli.new.source import calls, has, has_call, names
from offload.contracts.calls import is_name
from offload.contracts.catalogue import Catalogue
from offload.contracts.events.event import EventData
from offload.contracts.webhooks_in import providers as known_providers
from offload.contracts.webhooks_in.received import PREFIX, received_type
from offload.contracts.webhooks_in.scheme import Provider, Providers

_TYPE: Final = re.compile(r"[a-z][a-z0-9]*([.-][a-z0-9]+)*\.[a-z0-9]+(-[a-z0-9]+)*")
_RECEIVED: Final = re.compile(rf"{re.escape(PREFIX)}\.([a-z][a-z0-9-]*)\.(.+)")
_KNOWN: Final = {each.name: constant for constant, each in vars(known_providers).items() if isinstance(each, Provider)}
"""The constants of the providers that the framework knows, by their names."""


def event(app: App, name: str) -> Part:
    """A new event type: its contract, a test of it, its place in the catalogue.

    `webhook.received.PROVIDER.TYPE` is what a provider's webhook becomes.
    """
    received = _RECEIVED.fullmatch(name)
    if not received and not _TYPE.fullmatch(name):
        raise Failure(f"'{name}': an event type is a thing and what happened to it, as appointment.booked")
    if name in {each.TYPE for each in app.catalogue.event_types}:
        raise Failure(f"'{name}': the catalogue has an event type of that name")
    if received:
        return _webhook_event(app, name, *received.groups())
    module = module_name(re.sub(r"[.-]", "_", name))
    source = app.catalogue.events[0].SOURCE if app.catalogue.events else app.package
    return _contract(app, "event", name, module, {"type": name, "source": source})


def _webhook_event(app: App, name: str, provider: str, kind: str) -> Part:
    if provider not in app.catalogue.providers:
        known = ", ".join(sorted(app.catalogue.providers)) or "none"
        raise Failure(
            f"'{name}': the app has no provider '{provider}' ({known}): `offload new webhook {provider}` first"
        )
    if received_type(provider, kind) != name:
        raise Failure(f"'{name}': the type of such a webhook is {received_type(provider, kind)}")
    module = module_name(re.sub(r"\W", "_", f"{provider}_{kind}").lower())
    return _contract(app, "webhook_event", name, module, {"provider": provider, "kind": kind})


def _contract(app: App, template: str, name: str, module: str, values: dict[str, str]) -> Part:
    part, folder, contract = Part(app), app.contracts("events"), class_name(module)
    where = f"{app.module(folder)}.{module}"
    part.add(template, {**values, "name": module, "Class": contract, "where": where, "contracts": app.shown(folder)})
    part.in_catalogue("events", contract, where)
    part.in_readme("event", name, folder / f"{module}.py")
    return part


def consumer(app: App, name: str, event_type: str, stack: str | None = None) -> Part:
    """A new consumer of an event type: its function, its construct in a stack."""
    part, module, contract = Part(app), module_name(name), _event_type(app, event_type)
    part.add("consumer", {"name": module, "Class": class_name(module), **_of_event(contract)})
    part.in_stack(
        app.stack_file(stack),
        f'EventConsumer(self, "{class_name(module)}", source="{module}", events=({contract.__name__},), '
        "bus=platform.bus)",
        {"offload.cdk": "EventConsumer", contract.__module__: contract.__name__},
    )
    part.in_readme("consumer", module, app.function(module))
    part.todo.append("write what it does: the handler logs each event until then")
    return part


def job(app: App, name: str, stack: str | None = None) -> Part:
    """A new job type: its contract, its function, its construct, its place in the catalogue."""
    part, module, folder = Part(app), module_name(name), app.contracts("jobs")
    if module in app.catalogue.job_types:
        raise Failure(f"'{name}': the catalogue has a job type of that name")
    where, constant = f"{app.module(folder)}.{module}", module.upper()
    of_type = {"name": module, "Class": class_name(module), "CONSTANT": constant}
    part.add("job", {**of_type, "where": where, "contracts": app.shown(folder)})
    part.in_catalogue("jobs", constant, where)
    part.in_stack(
        app.stack_file(stack),
        f'BackgroundJob(self, "{class_name(module)}", source="{module}", job={constant}, service=platform.jobs)',
        {"offload.cdk": "BackgroundJob", where: constant},
    )
    part.in_readme("job", module, app.function(module))
    part.todo.append("write what it does: it gives its input back until then")
    return part


def webhook(app: App, name: str, stack: str | None = None) -> Part:
    """A new provider of webhooks: how it signs, its place among the providers, its receiver in a stack.

    Of a provider that the framework knows (`github`, `stripe` …) the scheme is there; of another one it is a plain
    HMAC to begin with.
    """
    if name in app.catalogue.providers:
        raise Failure(f"'{name}': the app has a provider of that name")
    if not is_name(name):
        raise Failure(f"'{name}': a provider is named by lower-case words with hyphens between, as parcel-service")
    part, module = Part(app), module_name(name.replace("-", "_"))
    constant, title = module.upper(), class_name(module)
    where = known_providers.__name__
    if name in _KNOWN:
        constant, title = _KNOWN[name], getattr(known_providers, _KNOWN[name]).title.replace(" ", "")
    else:
        folder = app.contracts("webhooks")
        where = f"{app.module(folder)}.{module}"
        of_scheme = {"provider": name, "name": module, "CONSTANT": constant, "Title": title}
        part.add("provider", {**of_scheme, "where": where, "contracts": app.shown(folder)})
        part.todo.append(f"write how {name} signs, in {app.shown(folder)}/{module}.py: docs/webhooks/add-a-scheme.md")
    providers = app.catalogue.providers.module or f"{app.package}.providers"
    file = app.project.root / f"{providers.replace('.', '/')}.py"
    if not app.catalogue.providers.module:
        part.add("providers", {})
        part.edit(app.catalogue_file(), with_argument, calls(Catalogue.__name__), "providers=PROVIDERS")
        part.import_name(app.catalogue_file(), providers, "PROVIDERS")
    part.edit(file, with_argument, calls(Providers.__name__), constant)
    part.import_name(file, where, constant)
    part.in_stack(
        app.stack_file(stack),
        f'WebhookReceiver(self, "{title}", provider={constant}, bus=platform.bus)',
        {"offload.cdk": "WebhookReceiver", where: constant},
    )
    part.in_readme("provider", name, file)
    part.todo += [
        f"after the deployment: `offload webhooks rotate {name}`, and its URL from `offload webhooks providers`",
        f"a contract for what it sends: `offload new event {PREFIX}.{name}.TYPE`, and a consumer of that",
    ]
    return part


def integration(app: App, name: str, event_type: str, stack: str | None = None) -> Part:
    """A new call of a third party for each event of a type: its function, a test, its constructs in a stack."""
    part, module, contract = Part(app), module_name(name), _event_type(app, event_type)
    third_party, title = module.replace("_", "-"), class_name(module)
    part.add("integration", {"name": module, "third_party": third_party, **_of_event(contract)})
    file = app.stack_file(stack)
    part.in_stack(
        file,
        f'{module} = Integration(self, "{title}Api", third_party="{third_party}", per_second=10, total_seconds=5, '
        "secret=True)",
        {"offload.cdk": "Integration"},
    )
    part.in_stack(
        file,
        # Ten calls of five seconds each, and what the function needs besides.
        f'EventConsumer(self, "{title}", source="{module}", events=({contract.__name__},), bus=platform.bus, '
        f"grants=({module}.call,), timeout=Duration.seconds(60))",
        {"offload.cdk": "EventConsumer", contract.__module__: contract.__name__, "aws_cdk": "Duration"},
    )
    part.in_readme("integration", module, app.function(module))
    part.todo += [
        f"write what it sends and where, in lambdas/{module}/request.py (docs/integrations.md)",
        f"after the deployment: `offload integrations credentials {third_party} --file FILE`",
    ]
    return part


def table(app: App, name: str, function: str) -> Part:
    """A new table that a function may read and write: its construct, its grant, how items are read and written."""
    part, module = Part(app), module_name(name)
    of_function = has("source", module_name(function))
    stacks = [file for file in app.stack_files() if has_call(part.text(file), of_function, app.shown(file))]
    if len(stacks) != 1:
        raise Failure(f"'{function}': no construct in stacks/ has source=\"{function}\": write it first")
    [stack] = stacks
    if module in names(part.text(stack), app.shown(stack)):
        raise Failure(f"{app.shown(stack)}: has the name `{module}` already: choose another name")
    title = class_name(module)
    values = {"name": module, "Class": title, "CONSTANT": module.upper(), "function": function}
    part.add("table", {**values, "words": module.replace("_", " ")})
    part.edit(stack, with_call_before, of_function, f'{module} = {title}(self, "{title}")')
    part.edit(stack, with_item, of_function, "grants", f"{module}.write")
    part.import_name(stack, f"stacks.{module}", title)
    part.in_readme("table", module, app.project.root / "stacks" / f"{module}.py")
    part.todo.append(
        f"use it in lambdas/{function}/handler.py: `from .{module} import {title}`, {title}.from_environment()"
    )
    return part


def _of_event(contract: type[EventData]) -> dict[str, str]:
    """What a template says of an event type."""
    return {"type": contract.TYPE, "Event": contract.__name__, "where": contract.__module__}


def _event_type(app: App, event_type: str) -> type[EventData]:
    contract = next((each for each in app.catalogue.event_types if event_type == each.TYPE), None)
    if contract is None:
        known = ", ".join(sorted(each.TYPE for each in app.catalogue.event_types))
        raise Failure(f"there is no event type '{event_type}': {known}; or `offload new event {event_type}` first")
    return contract
