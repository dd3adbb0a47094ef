#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A small double of devstack, for one plugin: what a plugin may rely on, in
# devstack's order, on a host that lies in a directory.
#
#   double.sh stack|unstack|clean
#
# PLUGIN is the plugin's checkout. HOST is the directory: its etc and var are
# the host's for what runs by sudo; localrc is the user's; fails has a file
# for each command that fails, with a pattern of its arguments. calls is what
# was called. A command or function that is not known ends all with an error.

# What the plugin sets and calls, and a sudo that is a function, are not seen.
# shellcheck disable=SC2032,SC2034,SC2153

set -o pipefail

TOP_DIR=$HOST/devstack
DEST=$HOST/opt/stack
DATA_DIR=$DEST/data
STACK_USER=stack

# What is called

function note {
    local shown
    printf -v shown ' %s' "$@"
    echo "${shown:1}" >> "$HOST/calls"
}

# Note a command that only a real host has, and end as the test wants.
function pretend {
    note "$@"
    local pattern=$HOST/fails/$1
    ! [[ -e $pattern && "$*" =~ $(< "$pattern") ]]
}

function command_not_found_handle {
    note "UNKNOWN $*"
    echo "double.sh: not in the contract: $*" >&2
    return 127
}

# The host

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

# The contract

function iniset { # FILE SECTION OPTION VALUE
    if [[ $# -ne 4 ]]; then
        die $LINENO "iniset takes one value: $*"
    fi
    mkdir -p "$(dirname "$1")"
    touch "$1"
    local written
    written=$(awk -v section="[$2]" -v option="$3" -v value="$4" '
        function put() { if (!done) print option " = " value; done = 1 }
        /^\[/ { if (inside) put(); inside = ($0 == section) }
        inside && index($0, option " =") == 1 { put(); next }
        { print }
        END { if (!inside && !done) print section; put() }' "$1")
    echo "$written" > "$1"
}

function iniget { # FILE SECTION OPTION
    awk -v section="[$2]" -v option="$3 = " '
        /^\[/ { inside = ($0 == section) }
        inside && index($0, option) == 1 {
            print substr($0, length(option) + 1)
        }' "$1"
}

function trueorfalse { # DEFAULT NAME
    case ${!2:-} in
    1 | [yY]es | YES | [tT]rue | TRUE) echo True ;;
    0 | [nN]o | NO | [fF]alse | FALSE) echo False ;;
    *) echo "$1" ;;
    esac
}

function die { # LINE MESSAGE
    echo "ERROR: ${*:2}" >&2
    exit 1
}

function is_arch {
    [[ $1 == "${ARCH:-x86_64}" ]]
}

function is_service_enabled {
    local service
    for service; do
        [[ ,$ENABLED_SERVICES, != *,$service,* ]] || return 0
    done
    return 1
}

function enable_service {
    local service
    for service; do
        [[ ,$DISABLED_SERVICES,$ENABLED_SERVICES, == *,$service,* ]] ||
            ENABLED_SERVICES+=,$service
    done
}

# Only in localrc and settings.
function disable_service {
    local service
    for service; do
        DISABLED_SERVICES+=,$service
        ENABLED_SERVICES=,$ENABLED_SERVICES,
        ENABLED_SERVICES=${ENABLED_SERVICES/,$service,/,}
    done
}

function define_plugin {
    note define_plugin "$@"
}

function enable_plugin { # NAME URL
    note enable_plugin "$@"
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

# As devstack does: in a subshell, asked how it went, its words by blanks.
function async_run { # NAME COMMAND...
    note async_run "$@"
    (
        # shellcheck disable=SC2048 # devstack does not quote it either
        if ${*:2} > "$HOST/async-$1" 2>&1; then
            echo 0 > "$HOST/async-$1.rc"
        else
            echo $? > "$HOST/async-$1.rc"
        fi
    ) &
}

function async_wait { # NAME
    note async_wait "$@"
    wait
    return "$(< "$HOST/async-$1.rc")"
}

function test_with_retry { # COMMAND MESSAGE SECONDS INTERVAL
    if ! [[ $3 =~ ^[0-9]+$ && $4 =~ ^[0-9]+$ ]]; then
        die $LINENO "test_with_retry: $3 $4"
    fi
    bash -nc "while ! $1; do :; done" || die $LINENO "test_with_retry: $1"
    pretend test_with_retry "${1//$'\n'/ }" || die $LINENO "$2"
}

function upload_image { # URL
    note upload_image "$1"
    [[ -s ${1#file://} ]] || die $LINENO "Not found: $1"
}

# The order

function before_settings {
    VIRT_DRIVER=libvirt
    ENABLED_SERVICES=key,g-api,n-api,n-cond,n-cpu,n-sch,n-novnc,q-svc,q-agt
    ENABLED_SERVICES+=,tls-proxy,tempest
    source "$HOST/localrc"
    HOST_IP=${HOST_IP:-192.0.2.7}
    SERVICE_HOST=${SERVICE_HOST:-$HOST_IP}
    TUNNEL_ENDPOINT_IP=${TUNNEL_ENDPOINT_IP:-$HOST_IP}
    REGION_NAME=RegionOne
    SERVICE_PASSWORD='se=cr"et'
    DEVSTACK_VENV=$DATA_DIR/venv
    DEFAULT_IMAGE_NAME=${DEFAULT_IMAGE_NAME:-cirros}
}

function libraries {
    NOVA_CONF=$HOST/nova/nova.conf
    NOVA_CPU_CONF=$HOST/nova/nova-cpu.conf
    NEUTRON_CONF=$HOST/neutron/neutron.conf
    TEMPEST_CONFIG=$HOST/tempest/tempest.conf
    NOVA_INSTANCES_PATH=$DATA_DIR/nova/instances
    INSTANCE_NAME_PREFIX=instance-
    Q_AGENT=${Q_AGENT:-ovn}
    Q_ML2_TENANT_NETWORK_TYPE=${Q_ML2_TENANT_NETWORK_TYPE:-geneve}
    BUILD_TIMEOUT=${BUILD_TIMEOUT:-196}
}

function run { # MODE PHASE
    note "== $*"
    # In a function, as devstack does it.
    source "$PLUGIN/devstack/plugin.sh" "$@"
}

function overrides {
    source "$PLUGIN/devstack/override-defaults"
}

function settings {
    source "$PLUGIN/devstack/settings"
}

function stack {
    trap 'echo "double.sh: line $LINENO failed" >&2' ERR
    set -o errexit -o errtrace
    before_settings
    overrides
    libraries
    settings
    run stack pre-install
    rm -rf "$HOST/nova" "$HOST/tempest"
    iniset "$NOVA_CONF" DEFAULT transport_url rabbit://u:p@q:5672/
    iniset "$NOVA_CONF" service_user auth_url "http://$SERVICE_HOST/identity"
    iniset "$NEUTRON_CONF" DEFAULT transport_url rabbit://u:p@q:5672/
    run stack install
    run stack post-config
    cp "$NOVA_CONF" "$NOVA_CPU_CONF"
    iniset "$NOVA_CPU_CONF" DEFAULT transport_url \
        rabbit://u:p@q:5672/nova_cell1
    run stack extra
    if is_service_enabled tempest; then
        iniset "$TEMPEST_CONFIG" compute-feature-enabled resize True
        iniset "$TEMPEST_CONFIG" compute build_timeout "$BUILD_TIMEOUT"
        iniset "$TEMPEST_CONFIG" validation image_ssh_user \
            "${DEFAULT_INSTANCE_USER:-cirros}"
        iniset "$TEMPEST_CONFIG" double image "$DEFAULT_IMAGE_NAME"
        iniset "$TEMPEST_CONFIG" double tunnel "$TUNNEL_ENDPOINT_IP"
    fi
    run stack test-config
}

function unstack {
    before_settings
    overrides
    libraries
    settings
    run unstack
}

# Without override-defaults.
function clean {
    before_settings
    libraries
    (unstack)
    settings
    run clean
    rm -rf "$DATA_DIR"
}

"$1"
