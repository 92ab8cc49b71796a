"""Containers that may be many thousand lines high."""

from __future__ import annotations

from textual._spatial_map import SpatialMap
from textual.geometry import Region, Size
from textual.layout import DockArrangeResult, WidgetPlacement
from textual.strip import Strip
from textual.widget import Widget

_CELLS = 64
"""Cells of the map of a container, at most, one below the other."""
_CELL = (100, 20)
"""Columns and lines of a cell in Textual's own maps."""


class TallWidget(Widget):
    """A container whose height has no bound.

    Textual finds the visible children in a map with a cell for each 20 lines, and fills it anew when a child
    grows. The cost of each update would grow with the height, so tall containers have larger cells.
    """

    def arrange(self, size: Size, optimal: bool = False) -> DockArrangeResult:  # noqa: FBT001, FBT002
        """Return the places of the children, as Textual does."""
        result = super().arrange(size, optimal)
        if result._spatial_map is None:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            bottom = max((placement.region.bottom for placement in result.placements), default=0)
            if bottom > _CELLS * _CELL[1]:
                cells: SpatialMap[WidgetPlacement] = SpatialMap(_CELL[0], -(-bottom // _CELLS))
                cells.insert(
                    (place.region.grow(place.margin), place.offset, place.fixed, place.overlay, place)
                    for place in result.placements
                )
                result._spatial_map = cells  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return result

    def render_lines(self, crop: Region) -> list[Strip]:
        """Return the lines behind the children. They are all alike: no border is above them."""
        return super().render_lines(Region(crop.x, crop.y, crop.width, 1)) * crop.height
