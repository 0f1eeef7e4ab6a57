from __future__ import annotations

from tests.house.importer import complaints


def test_warnings_and_errors_are_found_and_names_that_contain_them_are_not():
    log = "Loading module WARNING_light\nWARNING: no tags\nImporting\nERROR: no README\nCollection loading complete"
    assert complaints(log) == ["WARNING: no tags", "ERROR: no README"]
    assert complaints("Loading role verify\nImporter processing completed successfully") == []
