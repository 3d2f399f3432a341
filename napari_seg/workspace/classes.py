"""The classes of a mask: what the user calls them, and what models do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from napari_seg.corrections.project import ProjectClass
from napari_seg.errors import InputError

__all__ = ["ClassNames"]


class ClassNames:
    """Names in the order of the ids, with those that classes had before.

    A model keeps the names that it was trained with; after a class was renamed, both
    are the same class.

    Parameters
    ----------
    names : iterable of str
        Of the model that is used first.

    Attributes
    ----------
    names : list of str
        As the user calls them now.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)
        self._present: dict[str, str] = {}
        self._uncounted: set[str] = set()

    @property
    def countable(self) -> tuple[bool, ...]:
        """Of which classes there are objects; the background never has any."""
        return tuple(
            class_id > 0 and name not in self._uncounted
            for class_id, name in enumerate(self.names)
        )

    def set_countable(self, class_id: int, countable: bool) -> None:
        """Say whether the pixels of a class are objects, one beside the other."""
        change = self._uncounted.discard if countable else self._uncounted.add
        change(self.names[class_id])

    def known(self, names: Sequence[str]) -> bool:
        """Whether a model's classes are the first ones of these."""
        present = [self._present.get(name, name) for name in names]
        return present == self.names[: len(names)]

    def to_train(self, names: Sequence[str]) -> list[str]:
        """Return the classes for a model that has `names`: these, and what it lacks."""
        return [*names, *self.names[len(names) :]]

    def add(self, name: str) -> None:
        """Add a class behind the others.

        Raises
        ------
        InputError
            If the name is empty, taken or holds a comma.
        """
        self.names.append(self._checked(name))

    def rename(self, class_id: int, name: str) -> None:
        """Call a class something else.

        Raises
        ------
        InputError
            As :meth:`add`.
        """
        old, new = self.names[class_id], name.strip()
        if new == old:
            return
        # Its own former name may come back.
        if self._present.get(new) == old:
            del self._present[new]
        new = self._checked(new)
        countable = old not in self._uncounted
        self.set_countable(class_id, True)
        self.names[class_id] = new
        self.set_countable(class_id, countable)
        former = [past for past, now in self._present.items() if now == old]
        self._present |= dict.fromkeys([*former, old], new)

    def _checked(self, name: str) -> str:
        name = name.strip()
        # Models would take a former name for the class that had it.
        taken = {*self.names, *self._present}
        if not name or "," in name or name in taken:
            raise InputError(
                f"The class name {name!r} is empty, taken, or holds a comma; choose "
                "another one."
            )
        return name

    def saved(self) -> list[ProjectClass]:
        """Return what is saved of the classes."""
        return [
            ProjectClass(
                name,
                "",
                tuple(old for old, new in self._present.items() if new == name),
                countable,
            )
            for name, countable in zip(self.names, self.countable, strict=True)
        ]

    def adopt(self, saved: Sequence[ProjectClass]) -> bool:
        """Take what was saved, if these classes are the first ones of it."""
        other = ClassNames(entry.name for entry in saved)
        other._present = {old: each.name for each in saved for old in each.earlier}
        if not other.known(self.names):
            return False
        self.names, self._present = other.names, other._present
        self._uncounted = {entry.name for entry in saved if not entry.countable}
        return True
