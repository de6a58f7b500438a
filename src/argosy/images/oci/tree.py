"""What a manifest or an index needs: all that must stay while it is named."""

from collections.abc import Iterator

from argosy.images.oci.layout import Descriptor, Malformed, OciLayout


def reachable(layout: OciLayout, root: str) -> dict[str, int]:
    """The digests and sizes of `root` and all below it that is here. Looking marks them as used (see Leases).

    What is missing is passed over. StorageFailed for a manifest that is corrupt: nobody knows then what it needs.
    """
    found: dict[str, int] = {}
    waiting = [root]
    while waiting:
        digest = waiting.pop()
        if digest in found or not layout.has(digest):
            continue
        found[digest] = layout.size(digest)
        content = layout.json(digest)
        for item in (content.get("config"), *_list(content, "layers"), *_list(content, "manifests")):
            try:
                below = Descriptor.of(item)
            except Malformed:
                continue
            if item in _list(content, "manifests"):
                waiting.append(below.digest)
            elif layout.has(below.digest):
                found[below.digest] = below.size_bytes
    return found


def held(layout: OciLayout, root: str, content: Iterator[bytes]) -> Iterator[bytes]:
    """`content`, which is made of `root`: nothing of that is collected while somebody reads."""
    with layout.leases.hold():
        reachable(layout, root)
        yield from content


def children(layout: OciLayout, index: str) -> list[object]:
    """What an index that is here lists; nothing for a manifest. Looking marks nothing as used."""
    return _list(layout.json(index), "manifests")


def _list(content: dict[str, object], name: str) -> list[object]:
    value = content.get(name)
    return value if isinstance(value, list) else []
