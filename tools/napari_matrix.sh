#!/usr/bin/env bash
# Run the tests of the napari adapter against several napari: napari_matrix.sh [VERSION...]
# A version is the beginning of one, like 0.8; of these the newest release is taken.
# PYTEST_ARGUMENTS go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$(pwd -P)

versions=("$@")
((${#versions[@]})) || versions=(0.6 0.7 0.8 0.9)
tests=(tests/_qt/test_mask_layer.py tests/_qt/test_mask_machine.py
    tests/_qt/test_idle.py tests/_qt/test_palette.py tests/_qt/test_viewer_link.py)

# Each napari gets a small environment before that of development, which has the rest:
# torch alone would be gigabytes, again for each of them.
make_environment() {
    local folder=$1 version=$2 purelib shared packages
    purelib='import sysconfig; print(sysconfig.get_path("purelib"))'
    # In a checkout that was moved the environment is made anew.
    if [[ $(cat "$folder/made-in" 2>/dev/null) != "$here" ]]; then
        .venv/bin/python -m venv --clear --without-pip "$folder"
        shared=$(.venv/bin/python -c "$purelib")
        packages=$("$folder/bin/python" -c "$purelib")
        echo "import site; site.addsitedir('$shared')" >"$packages/zz_shared.pth"
        echo "$here" >"$folder/made-in"
    fi
    # pip counts the shared packages in, and leaves alone what lies outside.
    if ! "$folder/bin/python" -m pip install --quiet --disable-pip-version-check \
        --upgrade "napari==$version.*" >"$folder/pip.log" 2>&1; then
        cat "$folder/pip.log" >&2
        return 1
    fi
}

failed=0
lines=()
for version in "${versions[@]}"; do
    folder=.venv-napari/$version
    name="napari $version"
    if ! make_environment "$folder" "$version"; then
        lines+=("$name: could not be installed")
        failed=1
        continue
    fi
    name="napari $("$folder/bin/python" -c \
        'from importlib.metadata import version; print(version("napari"))')"
    echo "== $name"
    # Old releases warn of what newer packages deprecate: that is no error here.
    # shellcheck disable=SC2086
    if QT_API=pyqt5 tools/with_screen.sh "$folder/bin/python" -m pytest -q -m gui \
        -W ignore -p no:cacheprovider ${PYTEST_ARGUMENTS:-} "${tests[@]}" \
        | tee "$folder/tests.log"; then
        verdict=passed
    else
        verdict=FAILED
        failed=1
    fi
    lines+=("$name: $verdict ($(tail -n 1 "$folder/tests.log" | tr -d '='))")
done

echo "== All of them"
printf '%s\n' "${lines[@]}"
exit $failed
