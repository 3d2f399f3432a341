# Each command makes what it needs first; nothing has to be activated.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup libraries demo test test-core test-crash test-gui test-smoke \
    test-napari-matrix check bench bench-gpu screenshots docs

BIN := .venv/bin
# The environment knows its folder: in a checkout that was moved it is made anew.
STAMP := .venv/.installed-$(shell pwd -P | cksum | cut -d' ' -f1)
PYTEST := $(BIN)/python -m pytest
SCREEN := tools/with_screen.sh
# Else pytest would compile all of napari at each start.
unexport PYTHONDONTWRITEBYTECODE

help:
	@echo "make setup      .venv with everything for development (the others do it too)"
	@echo "make demo       the loop on a real sample; on a virtual screen without a display"
	@echo "make test       gui tests (PyQt5) and, beside them, core tests and a few of PyQt6"
	@echo "make test-napari-matrix  the mask layer's tests on other releases of napari"
	@echo "make check      style, types, import contracts, spelling"
	@echo "make bench      the figures of benchmarks/RESULTS.md; bench-gpu: those of a GPU"
	@echo "make screenshots  the pictures in docs/images, from the running program"
	@echo "make docs       the documentation as a site, in site/"

setup: libraries $(STAMP)

libraries:
	@tools/system_libraries.sh

$(STAMP): pyproject.toml requirements/constraints.txt tools/make_venv.sh
	@tools/make_venv.sh
	@touch $@

demo: setup
	@if [[ -n "$$DISPLAY$$WAYLAND_DISPLAY" ]]; then \
	    $(BIN)/napari-seg demo; \
	else \
	    mkdir -p demo-output && \
	    $(BIN)/napari-seg demo --tour --screenshot demo-output/tour.png && \
	    echo "No display here: the tour ran on a virtual one." \
	        "Its screenshot is demo-output/tour.png"; \
	fi

# All of them run, whatever the others find, in two lanes that take about the same time:
# gui tests, and beside them those of the core and then the smoke test, which tell when
# all is done. With more than one thread each, they would wait for one another.
test: export OMP_NUM_THREADS := 1
test: setup
	@failed=; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	for part in core smoke; do \
	    $(MAKE) --no-print-directory test-$$part || echo -n " $$part" >>"$$folder/failed"; \
	done >"$$folder/told" 2>&1 & beside=$$!; \
	$(MAKE) --no-print-directory test-gui || failed+=" gui"; \
	wait "$$beside"; cat "$$folder/told"; \
	[[ ! -e "$$folder/failed" ]] || failed+=$$(<"$$folder/failed"); \
	if [[ -n "$$failed" ]]; then echo "Failed:$$failed"; exit 1; fi

test-core: setup
	@echo "== Core tests, without Qt and display"
	@env -u DISPLAY -u WAYLAND_DISPLAY \
	    $(PYTEST) -p no:pytest-qt -p no:napari -m "not gui" --ignore tests/_qt

# Kills a working program at 200 random moments; `make test` does so at 40.
test-crash: setup
	@NAPARI_SEG_CRASH_ROUNDS=$${NAPARI_SEG_CRASH_ROUNDS:-200} \
	    $(PYTEST) -p no:pytest-qt -p no:napari -s tests/corrections/test_crash.py

test-gui: setup
	@echo "== Gui tests, PyQt5"
	@QT_API=pyqt5 $(SCREEN) $(PYTEST) -m gui tests/_qt

test-smoke: setup
	@echo "== Gui smoke test, PyQt6"
	@QT_API=pyqt6 $(SCREEN) $(PYTEST) -m smoke tests/_qt

# Not a part of `make test`: it installs the other napari first.
test-napari-matrix: setup
	@tools/napari_matrix.sh

check: setup
	@failed=; \
	run() { echo "== $$*"; "$$@" || failed+=" $${1##*/}"; }; \
	run $(BIN)/ruff check .; \
	run $(BIN)/ruff format --check .; \
	run $(BIN)/mypy; \
	run $(BIN)/lint-imports; \
	run $(BIN)/codespell; \
	if [[ -n "$$failed" ]]; then echo "Failed:$$failed"; exit 1; fi

bench: setup
	@$(BIN)/python -c 'import monai, onnxruntime, onnxscript, openvino' 2>/dev/null || \
	    echo "Some rivals are missing; $(BIN)/pip install -e '.[bench]'" \
	        "-c requirements/constraints.txt"
	@$(BIN)/python -m benchmarks

bench-gpu: setup
	@$(BIN)/python -m benchmarks --gpu
	@$(BIN)/python -m benchmarks.annotation --jobs $$(nproc)

docs: setup
	@$(BIN)/python -c 'import mkdocs, mkdocstrings' 2>/dev/null || \
	    $(BIN)/pip install -q -e '.[docs]' -c requirements/constraints.txt
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "The documentation is in site/index.html"

# PyQt6: under PyQt5 napari shows a warning in its window.
screenshots: setup
	@QT_API=pyqt6 $(SCREEN) $(BIN)/python tools/screenshots.py docs/images
