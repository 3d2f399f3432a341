#!/usr/bin/env bash
# Run a command on a virtual screen of its own: with_screen.sh COMMAND [ARGUMENT...]
set -euo pipefail

if ! command -v Xvfb >/dev/null; then
    if [[ $(uname -s) == Linux ]]; then
        echo "Xvfb is missing; 'make setup' installs it or says how." >&2
        exit 1
    fi
    exec "$@"
fi

folder=$(mktemp -d)
screen=
tidy() {
    [[ -z $screen ]] || kill "$screen" 2>/dev/null || true
    rm -rf "$folder"
}
trap tidy EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Xvfb picks a free number and writes it when it is ready.  Without -noreset it would
# start anew whenever its last window closes.
mkfifo "$folder/number"
Xvfb -displayfd 3 -screen 0 1920x1080x24 +extension GLX -noreset -nolisten tcp \
    3>"$folder/number" >"$folder/log" 2>&1 &
screen=$!
if ! read -r -t 30 number <"$folder/number"; then
    echo "The virtual screen did not start:" >&2
    cat "$folder/log" >&2
    exit 1
fi

export DISPLAY=":$number" QT_QPA_PLATFORM=xcb LIBGL_ALWAYS_SOFTWARE=1
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-$folder}"
unset WAYLAND_DISPLAY
"$@"
