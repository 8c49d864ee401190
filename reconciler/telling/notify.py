"""Messages to people, through the services that Apprise knows, as far as they are such.

A service is named by a URL that holds its secret. So no error here shows more of it than its
scheme, and that only if it is one of ours.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from reconciler.core.values import stays_here
from reconciler.telling.deliver import Undelivered, silence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apprise import AppriseAsset, NotifyBase

SECURE: Final = frozenset(
    {
        "betterstack",
        "discord",
        "forms",
        "gchat",
        "gotifys",
        "ilert",
        "incidentio",
        "jira",
        "jsons",
        "mailtos",
        "matrixs",
        "mmosts",
        "ntfys",
        "opsgenie",
        "pagerduty",
        "pover",
        "rockets",
        "signl4",
        "slack",
        "splunk",
        "squadcast",
        "tgram",
        "victorops",
        "webex",
        "workflow",
        "workflows",
        "wxteams",
        "xmls",
        "zulip",
    }
)
"""Schemes of services that people are told by, over TLS."""

CLEAR: Final = frozenset(
    {"form", "gotify", "json", "mailto", "matrix", "mmost", "ntfy", "rocket", "xml"}
)
"""Those whose text and secret go in clear: to this machine alone, as it is with the platform."""

Gravity = Literal["success", "warning", "failure"]
"""What colour a message has, or whom a pager wakes up."""


class Unfit(Exception):
    """A URL that no message can be sent to. The text shows nothing of it but a scheme of ours."""


@dataclass(frozen=True, slots=True)
class Service:
    """Where a message goes. `kind`: its scheme."""

    kind: str
    plugin: NotifyBase

    def send(self, title: str, body: str, gravity: Gravity) -> None:
        """Send a text. Raises: Undelivered."""
        from apprise import Apprise, NotifyFormat, NotifyType

        apprise = Apprise(asset=self.plugin.asset)
        apprise.add(self.plugin)
        if not apprise.notify(
            body=body,
            title=title,
            notify_type=NotifyType(gravity),
            body_format=NotifyFormat.TEXT,
        ):
            raise Undelivered("the service did not take it, or can't be reached")


def services(urls: Sequence[str]) -> tuple[Service, ...]:
    """The services that URLs name. Nothing is sent. Raises: Unfit."""
    if not urls:
        return ()
    try:
        import apprise  # noqa: F401 - an extra; better said now than at the end
    except ImportError as error:
        raise Unfit("it needs more packages: pip install 'reconciler[notify]'") from error
    silence("apprise", "requests", "urllib3")
    asset = _asset()
    return tuple(_service(number, url, asset) for number, url in enumerate(urls, 1))


def _asset() -> AppriseAsset:
    """How Apprise is to go about it: nothing from disk, nothing on disk, no redirect, text as it is."""
    from apprise import AppriseAsset, PersistentStoreMode

    return AppriseAsset(
        app_id="reconciler",
        app_desc="reconciler",
        async_mode=False,
        http_redirects=False,
        image_path_mask="",
        image_url_mask="",
        interpret_emojis=False,
        interpret_escapes=False,
        pem_autogen=False,
        pgp_autogen=False,
        storage_mode=PersistentStoreMode.MEMORY,
    )


def _service(number: int, url: str, asset: AppriseAsset) -> Service:
    from apprise import Apprise

    scheme = url.partition("://")[0].lower()
    if scheme not in SECURE | CLEAR | {"https"}:
        known = ", ".join(sorted(SECURE | CLEAR))
        raise Unfit(f"URL {number} begins with none of the known schemes: {known}")
    with warnings.catch_warnings(action="ignore"):  # it imports all services, some of old ways
        plugin = Apprise.instantiate(url, asset=asset)
    if plugin is None:
        raise Unfit(f"URL {number} ({scheme}) is not as this service has them")
    if scheme == "https":  # as the service itself shows it
        scheme = plugin.url(privacy=True).partition("://")[0]  # type: ignore[no-untyped-call]
        if scheme not in SECURE:
            raise Unfit(f"URL {number} (https) is no service that is known")
    if _readable_on_the_way(plugin, scheme):
        detail = "would send in clear, which is done to this machine alone: take its secure form"
        raise Unfit(f"URL {number} ({scheme}) {detail}")
    if not plugin.verify_certificate or plugin.redirects:
        raise Unfit(f"URL {number} ({scheme}): verify=no and redirect=yes are not taken")
    return Service(scheme, plugin)


def _readable_on_the_way(plugin: NotifyBase, scheme: str) -> bool:
    """Whether what goes there leaves this machine in clear. Mail has ways and servers of its own."""
    clear = getattr(plugin, "secure_mode", "insecure" if scheme in CLEAR else "") == "insecure"
    hosts = {plugin.host, getattr(plugin, "smtp_host", plugin.host)}
    return clear and not all(stays_here((host or "").strip("[]")) for host in hosts)
