"""Everything that is checked of EMQX, for `emqx-im doctor` and for the console's first page."""

from hooks.doctor import Finding, around, broker, clock, denials, fail, skipped
from hooks.doctor import security_checks as holes
from hooks.emqx.management import Management
from hooks.emqx.rest import BrokerAway, BrokerRefused
from hooks.emqx.rules.render import Rules


async def examine(api: Management, rules: Rules | None) -> list[Finding]:
    """Returns what is found; what it cannot ask for is a finding, too. rules: None: where EMQX reaches the service is
    not known, so that nothing can be compared with the files."""
    nodes, found = await broker.nodes(api)
    if not nodes:
        return found
    try:
        found += await broker.license_needed(api, nodes)
        if rules is None:
            what = "was not compared with emqx-rules/, and its actions were not looked at: IM_HOOK_URL is not set"
            found.append(skipped(broker.EMQX, what, "set IM_HOOK_URL to the address at which EMQX reaches the service"))
        else:
            found += await holes.against_the_files(api, rules)
            found += await holes.sending(api, rules)
        found += await holes.authentication(api)
        found += await holes.authorization(api)
        found += await around.examine(api)
        found += await denials.kept_denials(api)
        if rules is not None:
            found += await broker.actions(api, rules)
    except (BrokerAway, BrokerRefused) as error:
        mend = "use an API key with the role administrator, and see EMQX's log"
        found.append(fail(broker.EMQX, f"REST API fails: {error}", mend, broker.API_FAILING))
    if api.offset is not None:
        found.append(clock(broker.EMQX, api.offset, precision=1.0))
    return found
