"""The dock in napari: the only place that knows Qt and napari."""

# pyqtgraph takes the Qt binding that is imported already, and would prefer another
# one than qtpy does.
import qtpy  # noqa: F401
