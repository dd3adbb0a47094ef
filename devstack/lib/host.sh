#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A dom0: what share/xen44/prepare-dom0 does for nova-compute as user nova,
# for one that devstack runs as its own user. And all of it back.

function xen44_host_packages {
    if [[ $(xen44_arch) == x86_64 ]]; then
        echo xen-system-amd64 grub-xen-host
    else
        echo xen-system-arm64
    fi
    echo qemu-system-xen libvirt-daemon-system libvirt-daemon-driver-xen \
        libvirt-clients polkitd python3-libvirt openvswitch-switch logrotate
}

# Only where the operator asked for it: this changes what the machine boots.
function xen44_install_xen {
    local size=$XEN44_DOM0_MEMORY
    # shellcheck disable=SC2046 # one word each
    install_package $(xen44_host_packages)
    _xen44_write /etc/default/grub.d/xen44.cfg \
        "GRUB_CMDLINE_XEN_DEFAULT=\"dom0_mem=$size,max:$size\""
    sudo update-grub
}

# Keep a file of the host as it was before the first change of ours, or note
# that there was none, and no directory for it.
function _xen44_keep { # PATH
    local kept=$XEN44_STATE_DIR/host$1 directory
    directory=$(dirname "$1")
    if sudo test -e "$kept" || sudo test -e "$kept.absent"; then
        return
    fi
    sudo mkdir -p "$(dirname "$kept")"
    if sudo test -e "$1"; then
        # One step: half a copy shall not pass for the whole.
        sudo cp -a "$1" "$kept.partial"
        sudo mv "$kept.partial" "$kept"
    else
        if ! sudo test -e "$directory"; then
            sudo touch "$XEN44_STATE_DIR/host$directory.new"
        fi
        sudo touch "$kept.absent"
    fi
}

function _xen44_write { # PATH CONTENT
    _xen44_keep "$1"
    sudo mkdir -p "$(dirname "$1")"
    sudo tee "$1" > /dev/null <<< "$2"
}

function xen44_prepare_host {
    local share=$XEN44_DIR/share/xen44 unit args

    # libvirtd lets this group in, and nova-compute runs as this user.
    if [[ " $(id -nG "$STACK_USER") " != *" $LIBVIRT_GROUP "* ]]; then
        sudo mkdir -p "$XEN44_STATE_DIR"
        sudo tee "$XEN44_STATE_DIR/group" > /dev/null <<< "$LIBVIRT_GROUP"
        add_user_to_group "$STACK_USER" "$LIBVIRT_GROUP"
    fi

    # xenconsoled keeps what guests write to their consoles.
    if ! sudo test -d /var/log/xen/console; then
        _xen44_keep /var/log/xen/console
        sudo install -d -o root -g adm -m 2750 /var/log/xen/console
    fi
    if ! sudo grep -qs '^XENCONSOLED_ARGS=..' /etc/default/xen; then
        args=$(sudo cat /etc/default/xen 2> /dev/null || true)
        _xen44_write /etc/default/xen "$args
$(cat "$share/xenconsoled")"
    fi
    if [[ $(ps -C xenconsoled -o args=) != *' --log'* ]]; then
        # xenstored and guests go on running.
        restart_service xen
    fi

    # libvirtd looks for Xen once, when it starts.
    _xen44_write /etc/systemd/system/libvirtd.service.d/xen44.conf \
        "$(cat "$share/libvirtd.service.conf")"
    # These save and start guests without Nova's knowledge.
    for unit in xendomains.service libvirt-guests.service; do
        if systemctl is-enabled --quiet "$unit"; then
            sudo tee -a "$XEN44_STATE_DIR/units" > /dev/null <<< "$unit"
            sudo systemctl disable "$unit"
        fi
    done

    # A guest can write to its console quickly while nova-compute is down.
    _xen44_write /etc/logrotate.d/xen44 "$(sed \
        -e "s|/var/lib/nova/instances|$NOVA_INSTANCES_PATH|" \
        -e "s|su nova nova|su $STACK_USER $(id -gn "$STACK_USER")|" \
        "$XEN44_DIR/etc/logrotate.d/xen44")"
    _xen44_write /etc/systemd/system/logrotate.timer.d/xen44.conf \
        "$(cat "$share/logrotate.timer.conf")"

    sudo systemctl daemon-reload
    restart_service libvirtd
    restart_service logrotate.timer
}

# devstack itself looks at QEMU's libvirt, and finds none of them.
function xen44_remove_guests {
    local virsh='sudo virsh -c xen:///system' guest path
    if ! command -v virsh > /dev/null; then
        return
    fi
    for guest in $($virsh list --all --name |
        grep "^$INSTANCE_NAME_PREFIX"); do
        # One that is shut off cannot be destroyed.
        $virsh destroy "$guest" || true
        $virsh undefine --managed-save "$guest"
    done
    # Their ports' bridges, and with one end of a pair the other one.
    for path in /sys/class/net/qvb* /sys/class/net/qbr*; do
        if [[ -e $path ]]; then
            sudo ip link delete "${path##*/}"
        fi
    done
}

function xen44_restore_host {
    local path unit host=$XEN44_STATE_DIR/host
    if [[ -e $XEN44_STATE_DIR/group ]]; then
        sudo gpasswd --delete "$STACK_USER" \
            "$(cat "$XEN44_STATE_DIR/group")"
    fi
    if [[ -e $XEN44_STATE_DIR/units ]]; then
        while read -r unit; do
            sudo systemctl enable "$unit"
        done < "$XEN44_STATE_DIR/units"
    fi
    if [[ -d $host ]]; then
        # What is in a directory comes before the directory.
        while read -r path; do
            case $path in
            *.absent) sudo rm -rf "${path%.absent}" ;;
            *.new)
                path=${path%.new}
                if sudo test -d "$path"; then
                    sudo rmdir --ignore-fail-on-non-empty "$path"
                fi
                ;;
            # Of a stack.sh that was killed before it changed the file.
            *.partial) ;;
            *) sudo cp -a "$host$path" "$path" ;;
            esac
        done < <(sudo find "$host" ! -type d -printf '/%P\n' |
            awk '{print /\.new$/ " " $0}' | sort | cut -d ' ' -f 2-)
        sudo systemctl daemon-reload
        if [[ -e $host/etc/default/grub.d/xen44.cfg.absent ]]; then
            sudo update-grub
        fi
        if compgen -G "$host/etc/default/xen*" > /dev/null; then
            restart_service xen
        fi
    fi
    sudo rm -rf "$host" "$XEN44_STATE_DIR/group" "$XEN44_STATE_DIR/units"
}
