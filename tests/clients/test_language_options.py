"""Where the generated code of each language goes, for every contract."""

from importlib import import_module
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

_PROTOS = Path(__file__).parents[2] / "protos"
_FILES = sorted(str(file.relative_to(_PROTOS)) for file in (_PROTOS / "herald").rglob("*.proto"))


def options(file: str) -> descriptor_pb2.FileOptions:
    import_module(file.removesuffix(".proto").replace("/", ".") + "_pb2")
    found: descriptor_pb2.FileOptions = descriptor_pool.Default().FindFileByName(file).GetOptions()
    return found


@pytest.mark.parametrize("file", _FILES)
def test_each_contract_names_its_package_in_each_language(file: str) -> None:
    _, name, version, proto = Path(file).parts
    title = f"Herald.{name.capitalize()}.{version.upper()}"
    outer = proto.removesuffix(".proto").title().replace("_", "") + "Proto"

    found = options(file)

    assert found.csharp_namespace == title
    assert found.go_package == f"herald/gen/{name}/{version};{name}{version}"
    assert found.java_multiple_files
    assert found.java_outer_classname == outer
    assert found.java_package == f"com.herald.{name}.{version}"
    assert found.php_metadata_namespace == title.replace(".", "\\") + "\\GPBMetadata"
    assert found.php_namespace == title.replace(".", "\\")
    assert found.ruby_package == title.replace(".", "::")


def test_no_two_packages_share_a_prefix_of_objective_c() -> None:
    prefixes = {(Path(file).parts[1], options(file).objc_class_prefix) for file in _FILES}

    assert len({prefix for _, prefix in prefixes}) == len({name for name, _ in prefixes})
    assert len(prefixes) == len({name for name, _ in prefixes})
    assert all(len(prefix) == 3 for _, prefix in prefixes)
