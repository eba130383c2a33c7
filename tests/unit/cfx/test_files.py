import pytest

from cfx.files import replacing


def test_a_file_takes_the_place_of_the_old_one_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "a.txt"
    for text in ("one", "two"):
        with replacing(path) as temporary:
            temporary.write_text(text)
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


def test_an_exception_leaves_all_as_it_was(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_replaces_a_folder(tmp_path):
    path = tmp_path / "folder"
    for name in ("one", "two"):
        with replacing(path) as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [entry.name for entry in path.iterdir()] == ["two"] and list(tmp_path.iterdir()) == [path]
