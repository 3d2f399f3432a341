"""One thing that happened to the mask, as the ledger reports and the journal keeps it.

A change holds absolute values of its box before and after: writing it twice does no
harm, and it can be taken back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_seg.scoring.regions import Box

__all__ = ["Change", "Kind", "Pixels"]

Kind: TypeAlias = Literal["edit", "predict", "accept", "unaccept", "adopt", "revert"]
"""Who or what changed the mask; "adopt" takes a truth from elsewhere, "revert" brings
an earlier state back."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """The pixels of one box, as copies.

    Attributes
    ----------
    labels : ndarray of uint8
        The mask.
    state : ndarray of uint8
        0 untouched, 1 corrected, 2 accepted, 3 both.
    reference : ndarray of uint8 or None
        What the model said; None where the change did not touch it.
    """

    labels: NDArray[np.uint8]
    state: NDArray[np.uint8]
    reference: NDArray[np.uint8] | None = None

    def packed_again(self) -> Pixels:
        """Return the same pixels in as little memory as they can have."""
        return self


@dataclass(frozen=True, eq=False)
class Change:
    """What happened within one box.

    Attributes
    ----------
    kind : {"edit", "predict", "accept", "unaccept", "adopt", "revert"}
        Who or what did it.
    region : tuple of slice
        The box that holds all changes, one slice per axis.
    before, after : Pixels
        The box as it was and as it is.
    """

    kind: Kind
    region: Box
    before: Pixels
    after: Pixels

    @property
    def labels(self) -> NDArray[np.uint8]:
        """The mask after the change."""
        return self.after.labels

    @property
    def state(self) -> NDArray[np.uint8]:
        """The flags after the change."""
        return self.after.state
