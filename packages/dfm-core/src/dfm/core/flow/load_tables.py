"""What was read so far: files, packages by path and by name, and those whose names are known and that wait to be read.

A path is entered before it is read: what cannot be loaded is not tried again. The scope of a package exists from
the moment something names it, and is filled in when it is read.
"""

from msgspec import Struct, field

from dfm.core.flow.decode import decode_file
from dfm.core.flow.definitions import FileDefinition
from dfm.core.flow.diagnostics import At, Diagnostics
from dfm.core.flow.loaded import LoadedPackage
from dfm.core.flow.locate import read_flow_file
from dfm.core.flow.model import PackageScope


class Tables(Struct):
    """What loading knows.

    Attributes:
        files: all that were read, in this order.
        by_path: None for a file that is no package, or is being read.
        waiting: path of the flow file by the name of its package, and what names it first.
        loading: paths of the packages and fragments that are being read, outermost first.
    """

    diagnostics: Diagnostics
    by_name: dict[str, LoadedPackage] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    by_path: dict[str, LoadedPackage | None] = field(default_factory=dict)
    waiting: dict[str, tuple[str, At]] = field(default_factory=dict)
    loading: list[str] = field(default_factory=list)
    _scopes: dict[str, PackageScope] = field(default_factory=dict)

    def read(self, path: str) -> FileDefinition | None:
        """Return what a file says, None where it cannot be parsed."""
        node = read_flow_file(path, self.diagnostics)
        self.files.append(path)
        return None if node is None else decode_file(node, self.diagnostics)

    def scope(self, name: str) -> PackageScope:
        """Return the scope of the package of this name, read or not."""
        if name not in self._scopes:
            self._scopes[name] = PackageScope(name, "", loaded=self._scopes)
        return self._scopes[name]
