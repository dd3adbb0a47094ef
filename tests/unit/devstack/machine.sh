#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The double's host is this machine, a Debian with systemd: what devstack
# promises to do is done, as its user and by sudo.

# What the double sets is not seen, and what is set here is used there.
# shellcheck disable=SC2034,SC2153

DEST=/opt/stack
CONFIGURATION=/etc

# What devstack does

# The packages of the plugin's file, and the environment for Python.
function prepare_host {
    # shellcheck disable=SC2046 # one word each
    install_package $(cat "$PLUGIN/devstack/files/debs/"*)
    python3 -m venv --system-site-packages "$DEVSTACK_VENV"
}

# Its user may write there.
function new_configuration {
    local name
    for name in nova neutron tempest; do
        sudo rm -rf "${CONFIGURATION:?}/$name"
        sudo install -d -o "$STACK_USER" "$CONFIGURATION/$name"
    done
}

# Its unit, and something that runs in it as nova-compute would.
function start_nova_compute {
    sudo tee /etc/systemd/system/devstack@n-cpu.service > /dev/null << END
[Unit]
Description = Devstack devstack@n-cpu.service
[Service]
User = $STACK_USER
ExecStart = /bin/sleep infinity
KillMode = process
[Install]
WantedBy = multi-user.target
END
    sudo systemctl daemon-reload
    sudo systemctl enable devstack@n-cpu.service
    sudo systemctl restart devstack@n-cpu.service
}

function remove_configuration {
    sudo rm -rf "${CONFIGURATION:?}"/{nova,neutron,tempest}
    sudo rm -f /etc/systemd/system/devstack@*.service
    sudo systemctl daemon-reload
}

# The contract

function is_arch {
    [[ $1 == "$(uname -m)" ]]
}

function install_package {
    note install_package "$@"
    sudo DEBIAN_FRONTEND=noninteractive apt-get \
        --option Dpkg::Options::=--force-confold --assume-yes \
        install "$@" < /dev/null
}

# As devstack does: its words by blanks.
function pip_install {
    note pip_install "$@"
    # shellcheck disable=SC2048,SC2086 # devstack does not quote them either
    "$DEVSTACK_VENV/bin/pip" install $*
}

function add_user_to_group { # USER GROUP
    note add_user_to_group "$@"
    sudo usermod -a -G "$2" "$1"
}

function restart_service {
    note restart_service "$@"
    sudo /bin/systemctl restart "$1"
}

function stop_process {
    note stop_process "$@"
    local unit=devstack@$1.service
    if systemctl is-enabled "$unit"; then
        sudo systemctl stop "$unit"
        sudo systemctl disable "$unit"
    fi
}
