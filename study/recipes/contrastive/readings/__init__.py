"""What contrastive replicates say beside the limit: nearest neighbours, cosines of views, and escapes from collapse."""

from collections.abc import Iterator

from study.interface.readings import Reading, SliceView


def readings_of(view: SliceView) -> Iterator[Reading]:
    """The readings that a slice has."""
    from study.recipes.contrastive.readings.escape import read_escapes
    from study.recipes.contrastive.readings.moments import read_moments
    from study.recipes.contrastive.readings.neighbours import read_neighbours

    found: list[Reading | None] = [read_moments(view)]
    if view.is_first:
        found = [read_escapes(view), *found, read_neighbours(view)]
    yield from (reading for reading in found if reading is not None)
