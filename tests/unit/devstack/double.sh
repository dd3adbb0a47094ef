#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A small double of devstack, for one plugin: what a plugin may rely on, in
# devstack's order, on a host that is another file's.
#
#   double.sh stack|unstack|clean
#
# PLUGIN is the plugin's checkout. HOST is a directory: localrc is the user's;
# fails has a file for each command that fails, with a pattern of its
# arguments. calls is what was called. A command or function that is not known
# ends all with an error. ON says which host it is: one that lies in HOST
# (directory.sh), or this machine (machine.sh).

# What the plugin and the host set and call is not seen.
# shellcheck disable=SC2034,SC2153

set -o pipefail

TOP_DIR=$HOST/devstack
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

# The host: DEST, where services are configured, and the part of the contract
# that changes a host.
# shellcheck source=/dev/null
source "$(dirname "${BASH_SOURCE[0]}")/${ON:-directory}.sh"
DATA_DIR=$DEST/data

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
    NOVA_CONF=$CONFIGURATION/nova/nova.conf
    NOVA_CPU_CONF=$CONFIGURATION/nova/nova-cpu.conf
    NEUTRON_CONF=$CONFIGURATION/neutron/neutron.conf
    TEMPEST_CONFIG=$CONFIGURATION/tempest/tempest.conf
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
    prepare_host
    run stack pre-install
    new_configuration
    iniset "$NOVA_CONF" DEFAULT transport_url rabbit://u:p@q:5672/
    iniset "$NOVA_CONF" service_user auth_url "http://$SERVICE_HOST/identity"
    iniset "$NEUTRON_CONF" DEFAULT transport_url rabbit://u:p@q:5672/
    run stack install
    run stack post-config
    cp "$NOVA_CONF" "$NOVA_CPU_CONF"
    iniset "$NOVA_CPU_CONF" DEFAULT transport_url \
        rabbit://u:p@q:5672/nova_cell1
    if is_service_enabled n-cpu; then
        start_nova_compute
    fi
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
    remove_configuration
    rm -rf "$DATA_DIR"
}

"$1"
