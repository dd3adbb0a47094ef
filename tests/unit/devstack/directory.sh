#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The double's host in a directory: HOST's etc and var are the host's for what
# runs by sudo. Nothing of this machine is changed.

# What the double sets, and a sudo that is a function, are not seen.
# shellcheck disable=SC2032,SC2034,SC2153

DEST=$HOST/opt/stack
CONFIGURATION=$HOST

# Without this the tests' own host would be changed.
function sudo {
    local word words=()
    for word; do
        case $word in
        /etc/* | /var/*) words+=("$HOST$word") ;;
        *) words+=("$word") ;;
        esac
    done
    if [[ ${words[0]} == env ]]; then
        local -a settings=()
        words=("${words[@]:1}")
        while [[ ${words[0]} == *=* ]]; do
            settings+=("${words[0]}")
            words=("${words[@]:1}")
        done
        # An array is not for export; all of it is a lab's.
        local -x "${settings[@]}"
    fi
    case ${words[*]} in
    "$PLUGIN/lab/xenlab "*) xenlab "${words[@]:1}" ;;
    "python3 -m labkit.guest "*) guest_image "${words[@]:3}" ;;
    *) "${words[@]}" ;;
    esac
}

# Owners of the host are not the tests' own.
function install {
    local words=()
    while [[ $# -gt 0 ]]; do
        case $1 in
        -o | -g) shift ;;
        *) words+=("$1") ;;
        esac
        shift
    done
    command install "${words[@]}"
}

function xenlab {
    pretend xenlab "$@" "[$XENLAB_STATE]" || return
    case $1 in
    up) mkdir -p "$XENLAB_STATE" ;;
    join) cat > "$HOST/joined" ;;
    esac
}

function guest_image {
    pretend guest-image "$@" "[$XENLAB_CACHE]" || return
    mkdir -p "$XENLAB_CACHE/guest"
    echo a disk > "$XENLAB_CACHE/guest/disk.qcow2"
    echo '   5.0 MiB  '"$XENLAB_CACHE/guest/disk.qcow2"
    echo '   9.0 MiB  '"$XENLAB_CACHE/guest/disk.raw"
}

function systemctl {
    case $1 in
    is-enabled) grep -qx "${!#}" "$HOST/enabled" ;;
    disable)
        pretend systemctl "$@" && sed -i "/^$2\$/d" "$HOST/enabled"
        ;;
    enable) pretend systemctl "$@" && echo "$2" >> "$HOST/enabled" ;;
    *) pretend systemctl "$@" ;;
    esac
}

function virsh {
    pretend virsh "$@" || return
    case $3 in
    list) cat "$HOST/guests" ;;
    undefine) sed -i "/^${!#}\$/d" "$HOST/guests" ;;
    esac
}

function id {
    case $1 in
    -nG) cat "$HOST/groups" ;;
    -gn) echo stack ;;
    *) return 1 ;;
    esac
}

function gpasswd {
    pretend gpasswd "$@" && sed -i "s/ ${!#}\$//" "$HOST/groups"
}

function iptables {
    local rule=${*:2}
    case $1 in
    -C) grep -qsx -e "$rule" "$HOST/rules" ;;
    -I) pretend iptables "$@" && echo "$rule" >> "$HOST/rules" ;;
    -D) pretend iptables "$@" && sed -i "/^$rule\$/d" "$HOST/rules" ;;
    esac
}

# Only xenconsoled's arguments are asked for.
function ps {
    [[ -e $HOST/xenconsoled ]] && cat "$HOST/xenconsoled"
}

function xl {
    pretend xl "$@"
}

function update-grub {
    pretend update-grub
}

# What devstack does

function prepare_host {
    :
}

function new_configuration {
    rm -rf "$CONFIGURATION/nova" "$CONFIGURATION/tempest"
}

function start_nova_compute {
    :
}

function remove_configuration {
    :
}

# The contract

function is_arch {
    [[ $1 == "${ARCH:-x86_64}" ]]
}

function install_package {
    pretend install_package "$@"
}

function pip_install {
    pretend pip_install "$@"
}

function add_user_to_group { # USER GROUP
    note add_user_to_group "$@"
    sed -i "s/\$/ $2/" "$HOST/groups"
}

function restart_service {
    pretend restart_service "$@" || return
    if [[ $1 == xen ]]; then
        echo "xenconsoled $(sed -n 's/^XENCONSOLED_ARGS=//p' \
            "$HOST/etc/default/xen" | tail -n 1)" > "$HOST/xenconsoled"
    fi
}

function stop_process {
    pretend stop_process "$@"
}
