# Starts Kubernetes inside the namespaces of lib.sh: one machine with an API server, a controller manager, a
# scheduler, a kubelet on containerd, and CoreDNS. To be read by bash, after lib.sh and prepare_namespaces.
#
# There is no kube-proxy: names of headless services lead to pods without one, and whoever calls a gate here
# asks for its pod's address. All components are in the group of administrators; who may do what is not tested.
# shellcheck shell=bash

machine=10.84.0.1
pods=10.85 # .0.0/16; the bridge, and with it CoreDNS, is at .0.1
version=${KUBERNETES_VERSION:-v1.35.4}
bin=${XDG_CACHE_HOME:-$HOME/.cache}/steading-k8s/$version
cgroup=$(basename "$STEADING_INSIDE")

start_kubernetes() {
    make_machine
    make_credentials
    start_control_plane
    start_containerd
    start_kubelet
    start_dns
}

# A network of its own, and folders that the kubelet insists on.
make_machine() {
    ip link add machine type bridge
    ip addr add $machine/24 dev machine
    ip link set machine up
    ip link add pods type bridge
    ip addr add $pods.0.1/16 dev pods
    ip link set pods up
    ip route add default dev machine
    echo 1 >/proc/sys/net/ipv4/ip_forward
    mkdir -p /var/lib/kubelet /var/lib/cni
    mount -t tmpfs tmpfs /var/lib/kubelet
    mount -t tmpfs tmpfs /var/lib/cni
    mount -t tmpfs tmpfs /var/log
    local hierarchy
    for hierarchy in /sys/fs/cgroup/*/; do
        [ ! -e "$hierarchy/cgroup.procs" ] || mkdir -p "$hierarchy/$cgroup"
        # A new group of cpuset has no processors until it is told.
        if [ -e "$hierarchy/cpuset.cpus" ]; then
            cat "$hierarchy/cpuset.cpus" >"$hierarchy/$cgroup/cpuset.cpus"
            cat "$hierarchy/cpuset.mems" >"$hierarchy/$cgroup/cpuset.mems"
        fi
    done
}

make_credentials() {
    mkdir -p "$work/pki"
    openssl genrsa -out "$work/pki/accounts.key" 2048 2>/dev/null
    local token
    token=$(openssl rand -hex 16)
    echo "$token,admin,admin,\"system:masters\"" >"$work/pki/tokens"
    # Its own certificate is made anew by each API server, and it is the only one that can answer here.
    cat >"$work/kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://$machine:6443", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: $token}}]
contexts: [{name: test, context: {cluster: test, user: admin}}]
current-context: test
YAML
    export KUBECONFIG=$work/kubeconfig
}

start_control_plane() {
    local etcd=http://127.0.0.1:12379
    start cluster-etcd etcd --data-dir "$work/cluster-etcd" --unsafe-no-fsync \
        --listen-client-urls $etcd --advertise-client-urls $etcd \
        --listen-peer-urls http://127.0.0.1:12380 --initial-advertise-peer-urls http://127.0.0.1:12380 \
        --initial-cluster default=http://127.0.0.1:12380
    start kube-apiserver "$bin/kube-apiserver" --etcd-servers $etcd --advertise-address $machine --bind-address $machine \
        --cert-dir "$work/pki" --token-auth-file "$work/pki/tokens" --authorization-mode RBAC \
        --kubelet-preferred-address-types InternalIP --service-cluster-ip-range 10.86.0.0/16 --service-account-issuer https://kubernetes.default.svc \
        --service-account-signing-key-file "$work/pki/accounts.key" --service-account-key-file "$work/pki/accounts.key"
    wait_for "the API server is ready" 90 kubectl get --raw /readyz
    start kube-controller-manager "$bin/kube-controller-manager" --kubeconfig "$KUBECONFIG" --leader-elect=false \
        --service-account-private-key-file "$work/pki/accounts.key" --bind-address 127.0.0.1
    start kube-scheduler "$bin/kube-scheduler" --kubeconfig "$KUBECONFIG" --leader-elect=false --bind-address 127.0.0.1
    wait_for "accounts are made" 60 kubectl get serviceaccount default
}

start_containerd() {
    mkdir -p "$work/cni"
    cat >"$work/cni/pods.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "pods", "plugins": [{
  "type": "bridge", "bridge": "pods", "isGateway": false, "ipMasq": false,
  "ipam": {"type": "host-local", "dataDir": "$work/addresses", "routes": [{"dst": "0.0.0.0/0"}],
           "ranges": [[{"subnet": "$pods.0.0/16", "gateway": "$pods.0.1", "rangeStart": "$pods.1.0"}]]}}]}
JSON
    cat >"$work/containerd.toml" <<TOML
version = 2
root = "$work/containerd"
state = "/run/containerd"
[grpc]
address = "/run/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/pause:1"
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "$work/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
TOML
    start containerd containerd --config "$work/containerd.toml"
    wait_for "containerd answers" 30 ctr --address /run/containerd.sock version
}

start_kubelet() {
    : >"$work/resolv.conf"
    cat >"$work/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $machine
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: /$cgroup
failCgroupV1: false
failSwapOn: false
clusterDNS: [$pods.0.1]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix:///run/containerd.sock
resolvConf: $work/resolv.conf
podLogsDir: $work/pods
makeIPTablesUtilChains: false
evictionHard: {nodefs.available: "0%", imagefs.available: "0%", memory.available: "100Mi"}
imageGCHighThresholdPercent: 100
YAML
    start kubelet "$bin/kubelet" --config "$work/kubelet.yaml" --kubeconfig "$KUBECONFIG" --root-dir "$work/kubelet" \
        --hostname-override machine --node-ip $machine --node-labels topology.kubernetes.io/zone=zone-of-the-test
    wait_for "the machine is ready" 90 kubectl wait --for condition=Ready node/machine --timeout 1s
}

start_dns() {
    cat >"$work/Corefile" <<CORE
cluster.local:53 {
    bind $pods.0.1
    errors
    kubernetes cluster.local {
        kubeconfig $KUBECONFIG test
        pods insecure
        ttl 1
    }
}
CORE
    start coredns "$bin/coredns" -conf "$work/Corefile"
}

# Pods are stopped before the programs that would stop them, so that their networks and mounts go with them.
stop_kubernetes() {
    local name
    for name in kubelet coredns kube-scheduler kube-controller-manager kube-apiserver cluster-etcd; do
        [ -z "${pid_of[$name]:-}" ] || kill "${pid_of[$name]}" 2>/dev/null || true
    done
    ctr --address /run/containerd.sock -n k8s.io tasks ls -q 2>/dev/null \
        | while read -r task; do ctr --address /run/containerd.sock -n k8s.io tasks kill -s KILL "$task" 2>/dev/null || true; done
}

# Makes the images of the test with Docker, and gives them to containerd under the names of the manifests.
make_images() {
    export DOCKER_HOST=unix://$work/docker.sock
    start dockerd dockerd --data-root "$work/docker" --exec-root "$work/exec" --pidfile "$work/docker.pid" \
        -H "$DOCKER_HOST" --bridge none --iptables=false
    wait_for "dockerd answers" 60 docker version
    local etcd pause
    etcd=$(awk '$1 == "image:" { print $2; exit }' "$root/k8s/components/etcd-one/etcd.yaml")
    "$root/scripts/image" steading:dev "$programs/test-node=steading" "$programs/steading-inspector" >/dev/null
    "$root/scripts/image" steading:next "$programs/test-node-next=steading" "$programs/steading-inspector" >/dev/null
    "$root/scripts/image-files" "$work/etcd-files/usr/local/bin" "$(command -v etcd)"
    (cd "$work/etcd-files" && mv usr/local/bin/lib* . && mv usr/local/bin/etc . && tar c .) | docker import - "$etcd" >/dev/null
    pause=$work/pause-files
    mkdir "$pause"
    printf '#include <unistd.h>\nint main(void) { for (;;) pause(); }\n' | cc -static -x c -o "$pause/pause" -
    tar c -C "$pause" . | docker import --change 'ENTRYPOINT ["/pause"]' - localhost/pause:1 >/dev/null
    docker save steading:dev steading:next "$etcd" localhost/pause:1 | ctr --address /run/containerd.sock -n k8s.io images import - >"$work/log/images"
    kill "${pid_of[dockerd]}"
    wait "${pid_of[dockerd]}" || true
    rm -rf "$work/docker" "$work/exec"
}
