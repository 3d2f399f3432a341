"""The ledger against a slow model of it that keeps plain arrays and recounts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sklearn.metrics import confusion_matrix

from napari_seg.corrections.ledger import ACCEPTED, CORRECTED, Ledger, Pixels
from napari_seg.errors import LabelsError
from napari_seg.scoring.tally import UNKNOWN

SHAPE = (3, 8, 9)
corners = st.tuples(*(st.integers(0, n) for n in SHAPE))
regions = st.tuples(corners, corners).map(
    lambda ends: tuple(slice(*sorted(pair)) for pair in zip(*ends, strict=True))
)
painted = st.sampled_from([0, 0, 1, 1, 2, 3, 62, 63, 64, 254, UNKNOWN])


def background(reference):
    return np.where(reference == UNKNOWN, 0, reference)


def sklearn_counts(labels, reference, chosen, n_classes):
    chosen = chosen & (labels < n_classes) & (reference < n_classes)
    if not chosen.any():
        return np.zeros((n_classes, n_classes), int)
    ids = list(range(n_classes))
    return confusion_matrix(labels[chosen], reference[chosen], labels=ids)


class LedgerMachine(RuleBasedStateMachine):
    """Random edits, predictions and reviews; every sum is compared after each."""

    @initialize(
        seed=st.integers(0, 999),
        predicted=st.booleans(),
        n_classes=st.sampled_from([2, 3, 62, 63, 64, 200]),
    )
    def start(self, seed, predicted, n_classes):
        rng = np.random.default_rng(seed)
        self.n_classes = n_classes
        self.reference = np.full(SHAPE, UNKNOWN, np.uint8)
        self.labels = np.zeros(SHAPE, np.uint8)
        if predicted:
            self.reference[:] = rng.integers(0, 2, SHAPE)
            self.labels[:] = self.reference
        self.corrected = np.zeros(SHAPE, bool)
        self.accepted = np.zeros(SHAPE, bool)
        self.seen = self.labels.copy()
        self.undo = []
        self.ledger = Ledger(self.labels, self.reference.copy(), n_classes)

    def expect_edits(self, region):
        changed = np.zeros(SHAPE, bool)
        changed[region] = self.labels[region] != self.seen[region]
        wrong = self.labels != background(self.reference)
        self.corrected = np.where(changed, wrong, self.corrected)
        self.seen[changed] = self.labels[changed]
        return changed

    def report(self, region, told):
        expected = self.expect_edits(region)
        change = self.ledger.edited(region if told else None)
        if change is None:
            assert not expected.any()
            return
        inside = np.zeros(SHAPE, bool)
        inside[change.region] = True
        assert not (expected & ~inside).any()
        assert all(n.stop > n.start for n in change.region)
        np.testing.assert_array_equal(change.labels, self.labels[change.region])

    @rule(region=regions, label=painted, told=st.booleans())
    def paint(self, region, label, told):
        self.undo.append((region, self.labels[region].copy()))
        self.labels[region] = label
        self.report(region, told)

    @rule(told=st.booleans())
    def take_back(self, told):
        if self.undo:
            region, old = self.undo.pop()
            self.labels[region] = old
            self.report(region, told)

    @rule(region=regions, label=st.sampled_from([0, 1, UNKNOWN]), top=st.booleans())
    def predict(self, region, label, top):
        if top and label == 1:
            label = self.n_classes - 1
        prediction = np.full(self.labels[region].shape, label, np.uint8)
        self.ledger.predicted(region, prediction)
        self.reference[region] = label
        free = ~(self.corrected | self.accepted)[region]
        self.seen[region] = np.where(free, background(prediction), self.seen[region])

    @rule(region=regions, label=painted)
    def predict_during_a_stroke(self, region, label):
        self.labels[region] = label
        self.expect_edits(region)
        self.predict(region, 1, False)

    @rule(region=regions, masked=st.booleans(), seed=st.integers(0, 99))
    def accept(self, region, masked, seed):
        mask = np.random.default_rng(seed).random(self.labels[region].shape) < 0.5
        self.ledger.accept(region, mask if masked else None)
        self.accepted[region] |= mask if masked else True

    @rule(region=regions)
    def unaccept(self, region):
        self.ledger.unaccept(region)
        chosen = np.zeros(SHAPE, bool)
        chosen[region] = self.accepted[region]
        self.corrected |= chosen & (self.labels != background(self.reference))
        self.accepted[region] = False

    @rule(region=regions, seed=st.integers(0, 99), label=painted)
    def adopt(self, region, seed, label):
        # Edits that nobody has told of yet come in first.
        self.labels[region] = label
        self.expect_edits(region)
        rng = np.random.default_rng(seed)
        values = [0, 1, self.n_classes - 1, UNKNOWN]
        truth = rng.choice(values, self.labels[region].shape).astype(np.uint8)
        change = self.ledger.adopt(region, truth)
        assert change.kind == "adopt"
        known = np.zeros(SHAPE, bool)
        known[region] = truth != UNKNOWN
        self.seen[region] = np.where(truth != UNKNOWN, truth, self.seen[region])
        wrong = self.seen != background(self.reference)
        self.corrected = np.where(known, wrong, self.corrected)
        self.accepted |= known

    @rule(seed=st.integers(0, 99))
    def assign_data(self, seed):
        self.labels = np.random.default_rng(seed).integers(0, 3, SHAPE, np.uint8)
        self.expect_edits(...)
        self.ledger.replace_labels(self.labels)

    @rule(region=regions, label=painted)
    def paint_unnoticed(self, region, label):
        self.labels[region] = label
        self.expect_edits(region)
        audit = self.ledger.audit()
        while not audit.done:
            audit.step()

    @rule(region=regions)
    def remember(self, region):
        labels, reference = self.labels[region].copy(), self.reference[region].copy()
        flags = self.corrected[region].copy(), self.accepted[region].copy()
        self.earlier = region, labels, reference, *flags

    @rule()
    def restore(self):
        if self.earlier is None:
            return
        region, labels, reference, corrected, accepted = self.earlier
        state = (corrected * CORRECTED + accepted * ACCEPTED).astype(np.uint8)
        self.ledger.restore(region, Pixels(labels, state, reference))
        self.seen[region], self.reference[region] = labels, reference
        self.corrected[region], self.accepted[region] = corrected, accepted

    earlier = None

    @rule(n_classes=st.sampled_from([2, 3, 5, 63, 64, 255]))
    def set_classes(self, n_classes):
        self.n_classes = n_classes
        self.ledger.set_classes(n_classes)

    @rule(region=regions)
    def focus(self, region):
        self.ledger.focus(region)
        self.focused = region

    @rule()
    def reopen(self):
        parts = self.labels, self.ledger.reference, self.n_classes
        self.ledger = Ledger(*parts, self.ledger.state())
        self.focused = None

    focused = None

    @invariant()
    def pixels_are_as_expected(self):
        np.testing.assert_array_equal(self.labels, self.seen)
        np.testing.assert_array_equal(self.ledger.reference, self.reference)
        state = self.corrected * CORRECTED + self.accepted * ACCEPTED
        np.testing.assert_array_equal(self.ledger.state(), state)
        vouched = (state > 0) & (self.labels < self.n_classes)
        truth = np.where(vouched, self.labels, UNKNOWN)
        np.testing.assert_array_equal(self.ledger.truth(), truth)

    @invariant()
    def untouched_pixels_show_the_model(self):
        untouched = self.ledger.state() == 0
        shown = background(self.reference)
        np.testing.assert_array_equal(self.labels[untouched], shown[untouched])

    @invariant()
    def sums_equal_a_recount(self):
        ledger, arrays = self.ledger, (self.labels, self.reference)
        assert ledger.corrected_pixels == self.corrected.sum()
        assert ledger.accepted_pixels == self.accepted.sum()
        assert ledger.vouched_pixels == (self.corrected | self.accepted).sum()
        here = np.zeros(SHAPE, bool)
        here[self.focused] = True
        scopes = {"whole": np.ones(SHAPE, bool), "reviewed": self.accepted}
        for scope, chosen in {**scopes, "slice": here}.items():
            np.testing.assert_array_equal(
                ledger.scores(scope).confusion,
                sklearn_counts(*arrays, chosen, self.n_classes),
            )
        counts = np.bincount(self.labels.ravel(), minlength=256)
        np.testing.assert_array_equal(ledger.pixels_per_class, counts[: self.n_classes])
        foreign = {i: counts[i] for i in range(self.n_classes, UNKNOWN) if counts[i]}
        assert ledger.foreign_pixels == foreign
        assert ledger.recount()


LedgerMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None
)
TestLedgerMachine = LedgerMachine.TestCase


@pytest.fixture
def ledger():
    reference = np.zeros((40, 50), np.uint8)
    reference[10:20, 10:20] = 1
    return Ledger(reference.copy(), reference, 2)


def test_an_audit_finds_wrong_sums_and_repairs_them(ledger, caplog):
    right = ledger.scores().confusion
    ledger._settled.whole._tally.counts[0, 0] += 5
    assert not np.array_equal(ledger.scores().confusion, right)
    audit = ledger.audit()
    while not audit.done:
        assert audit.step() is None
    np.testing.assert_array_equal(ledger.scores().confusion, right)
    assert "sums of the score were wrong" in caplog.text


def test_an_audit_begins_anew_after_a_stroke(ledger, caplog):
    audit = ledger.audit()
    audit.step()
    ledger.labels[:5] = 1
    ledger.edited()
    while not audit.done:
        assert audit.step() is None
    assert not caplog.records


def test_an_edit_that_nobody_told_of_is_found(ledger, caplog):
    ledger.labels[12:14, 30:33] = 1
    audit = ledger.audit()
    changes = [change for _ in range(5) if (change := audit.step())]
    assert [change.region for change in changes] == [(slice(12, 14), slice(30, 33))]
    assert ledger.corrected_pixels == 6
    assert "without notice" in caplog.text


def test_nothing_is_reverted_where_nothing_changed(ledger):
    now = Pixels(ledger.labels.copy(), ledger.state(), ledger.reference.copy())
    assert ledger.restore(None, now) is None


def test_undo_makes_a_pixel_untouched_again(ledger):
    ledger.labels[0:3, 0:3] = 1
    change = ledger.edited(np.s_[:8, :8])
    assert change.region == np.s_[0:3, 0:3]
    assert (change.before.labels == 0).all()
    assert (change.state == CORRECTED).all()
    ledger.labels[0:3, 0:3] = 0
    ledger.edited(np.s_[:8, :8])
    assert ledger.corrected_pixels == 0
    assert ledger.scores().mean_dice == 1.0


def test_undo_before_any_prediction_leaves_nothing_vouched():
    ledger = Ledger(np.zeros((8, 8), np.uint8))
    ledger.labels[2:4] = 1
    ledger.edited()
    ledger.labels[2:4] = 0
    ledger.edited()
    assert ledger.vouched_pixels == 0


def test_mask_of_somebody_else_is_not_overwritten():
    labels = np.zeros((8, 8), np.uint8)
    labels[:4] = 1
    ledger = Ledger(labels, None, 2)
    assert ledger.corrected_pixels == 32
    ledger.predicted(None, np.zeros((8, 8), int))
    assert (labels[:4] == 1).all()


def test_correction_stays_when_a_newer_model_agrees(ledger):
    ledger.labels[0, 0] = 1
    ledger.edited()
    ledger.predicted(None, np.ones((40, 50), np.uint8))
    ledger.predicted(None, np.zeros((40, 50), np.uint8))
    assert ledger.labels[0, 0] == 1
    assert ledger.corrected_pixels == 1
    assert ledger.labels.sum() == 1


def test_unaccepting_keeps_what_the_user_vouched_for(ledger):
    ledger.accept(np.s_[10:20, 10:20])
    ledger.predicted(None, np.zeros((40, 50), np.uint8))
    change = ledger.unaccept()
    assert ledger.accepted_pixels == 0
    assert ledger.corrected_pixels == 100
    assert change.kind == "unaccept"


def test_foreign_class_is_kept_and_counted_once_it_exists(ledger):
    ledger.labels[0, :5] = 7
    ledger.edited()
    assert ledger.foreign_pixels == {7: 5}
    assert (ledger.truth() == UNKNOWN).all()
    ledger.set_classes(8)
    assert ledger.foreign_pixels == {}
    assert ledger.pixels_per_class[7] == 5
    assert (ledger.truth(np.s_[0, :5]) == 7).all()


def test_one_byte_per_pixel(ledger):
    assert ledger.nbytes == ledger.labels.size


def test_large_changes_are_settled_in_pieces():
    labels = np.zeros((1500, 1100), np.uint8)
    ledger = Ledger(labels, labels.copy(), 2)
    labels[5:1400, 7:1000] = 1
    change = ledger.edited()
    assert change.region == np.s_[5:1400, 7:1000]
    assert ledger.corrected_pixels == 1395 * 993
    ledger.predicted(np.s_[:, :600], np.ones((1500, 600)).astype(int))
    ledger.accept()
    assert ledger.reviewed_fraction == 1.0
    assert ledger.recount()


def test_prediction_of_one_plane_may_lack_the_leading_axes():
    ledger = Ledger(np.zeros((2, 3, 8, 8), np.uint8))
    ledger.predicted((1, 2, slice(0, 4), slice(0, 8)), np.ones((4, 8), int))
    assert ledger.labels[1, 2, :4].all()
    assert ledger.labels.sum() == 32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((4, 4), int),), "uint8"),
        ((np.zeros(4, np.uint8),), "two axes"),
        ((np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8)), "same"),
        ((np.zeros((4, 4), np.uint8), None, 0), "1 to 255"),
        ((np.zeros((4, 4), np.uint8), None, 2, np.zeros((4, 4), bool)), "state"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(LabelsError, match=message):
        Ledger(*arguments)


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (np.zeros((3, 3), int), "region"),
        (np.full((4, 4), 2), "set the number of classes"),
        (np.zeros((4, 4)), "integers"),
    ],
)
def test_refused_prediction_changes_nothing(ledger, prediction, message):
    with pytest.raises(LabelsError, match=message):
        ledger.predicted(np.s_[10:14, 10:14], prediction)
    assert (ledger.labels[10:14, 10:14] == 1).all()


def test_a_truth_must_fit_the_classes(ledger):
    with pytest.raises(LabelsError, match=r"truth .* 0 to 1, or 255"):
        ledger.adopt(None, np.full((40, 50), 2))
    with pytest.raises(LabelsError, match="truth has shape"):
        ledger.adopt(None, np.zeros((40, 5), np.uint8))
    assert ledger.vouched_pixels == 0
