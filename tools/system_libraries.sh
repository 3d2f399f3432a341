#!/usr/bin/env bash
# Find the system libraries that Qt and OpenGL load at run time, and a virtual screen
# for the tests.  On Debian and its kin the missing ones are installed where the user
# may do so; elsewhere they are named.  SYSTEM_LIBRARIES=skip goes on without them.
set -euo pipefail

[[ ${SYSTEM_LIBRARIES:-} == skip || $(uname -s) != Linux ]] && exit 0

# What is loaded, and the Debian package that has it.  libxcb-cursor is Qt 6's.
libraries=(
    libGL.so.1            libgl1
    libEGL.so.1           libegl1
    libglib-2.0.so.0      libglib2.0-0
    libgthread-2.0.so.0   libglib2.0-0
    libfontconfig.so.1    libfontconfig1
    libfreetype.so.6      libfreetype6
    libdbus-1.so.3        libdbus-1-3
    libX11-xcb.so.1       libx11-xcb1
    libxkbcommon.so.0     libxkbcommon0
    libxkbcommon-x11.so.0 libxkbcommon-x11-0
    libxcb-cursor.so.0    libxcb-cursor0
    libxcb-icccm.so.4     libxcb-icccm4
    libxcb-image.so.0     libxcb-image0
    libxcb-keysyms.so.1   libxcb-keysyms1
    libxcb-randr.so.0     libxcb-randr0
    libxcb-render-util.so.0 libxcb-render-util0
    libxcb-shape.so.0     libxcb-shape0
    libxcb-xinerama.so.0  libxcb-xinerama0
    libxcb-xkb.so.1       libxcb-xkb1
)

known=$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p)
missing=()
packages=()

need() { # need WHAT PACKAGE
    missing+=("$1")
    [[ " ${packages[*]-} " == *" $2 "* ]] || packages+=("$2")
}

for ((i = 0; i < ${#libraries[@]}; i += 2)); do
    grep -qF "${libraries[i]} " <<<"$known" || need "${libraries[i]}" "${libraries[i + 1]}"
done
command -v Xvfb >/dev/null || need Xvfb xvfb
# Mesa's software renderer is no library of ldconfig's list.
compgen -G '/usr/lib*/dri/swrast_dri.so' >/dev/null ||
    compgen -G '/usr/lib/*/dri/swrast_dri.so' >/dev/null ||
    compgen -G '/usr/lib/*/libgallium-*.so' >/dev/null ||
    compgen -G '/usr/lib*/libgallium-*.so' >/dev/null ||
    need "Mesa's software renderer" libgl1-mesa-dri

((${#missing[@]})) || exit 0

echo "System libraries missing: $(printf '%s, ' "${missing[@]}" | sed 's/, $//')." >&2
if ! command -v apt-get >/dev/null; then
    echo "Install them with this system's package manager, then run make again" >&2
    echo "(or run it with SYSTEM_LIBRARIES=skip to go on without them)." >&2
    exit 1
fi

install="apt-get install -y --no-install-recommends ${packages[*]}"
if ((EUID == 0)); then
    as_root=()
elif sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
else
    echo "Ask for them once, then run make again:" >&2
    echo "    sudo apt-get update && sudo $install" >&2
    exit 1
fi

echo "Installing ${packages[*]} ..." >&2
if ! { "${as_root[@]}" apt-get update -q &&
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" $install; } >&2; then
    echo "That did not work (see above). The command was:" >&2
    echo "    apt-get update && $install" >&2
    exit 1
fi
