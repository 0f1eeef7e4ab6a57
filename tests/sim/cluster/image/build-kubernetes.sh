#!/bin/bash
# Builds kubelet and the control plane from Debian bookworm's own source package with Debian's Go.
# Runs in a Debian container, needs nothing but apt. usage: build-kubernetes.sh OUTPUT_FOLDER
set -euo pipefail
out=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
say() { echo "build-kubernetes: $*"; }

say "fetching the source package and Go"
sed 's/^deb /deb-src /' /etc/apt/sources.list > /etc/apt/sources.list.d/source.list 2>/dev/null || true
if [ -f /etc/apt/sources.list.d/debian.sources ]; then
    sed -i 's/^Types: deb$/Types: deb deb-src/' /etc/apt/sources.list.d/debian.sources
fi
apt-get -qq update
DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes apt-get -qq install -y --no-install-recommends \
    gcc libc6-dev dpkg-dev golang-1.19-go golang-1.19-src >/dev/null
cd "$work"
apt-get -qq source --download-only kubernetes 2>/dev/null
mkdir -p gopath/src/k8s.io
dpkg-source --no-check -x kubernetes_*.dsc gopath/src/k8s.io/kubernetes >/dev/null

export GOROOT=/usr/lib/go-1.19 GOPATH=$work/gopath GOCACHE=$work/cache GO111MODULE=off GOFLAGS='' GOPROXY=off CGO_ENABLED=1
export PATH=$GOROOT/bin:$PATH
cd "$GOPATH/src/k8s.io/kubernetes"
version=$(sed -nE 's/^kubernetes \(.*\+really([0-9.]+)-.*/\1/p; s/^kubernetes \(([0-9.]+)-.*/\1/p' debian/changelog | head -n 1)

# The API server and the controller manager do not link without the OpenAPI definitions, which upstream generates
# at build time from the packages that carry a +k8s:openapi-gen tag.
say "generating OpenAPI definitions for $version"
generator=$work/openapi-gen
go build -o "$generator" k8s.io/kubernetes/vendor/k8s.io/kube-openapi/cmd/openapi-gen
tagged() {
    { grep -RlE '^// *\+k8s:openapi-gen=' --include='*.go' "$@" 2>/dev/null || true; } |
        { grep -vE '_test\.go|/_examples/|zz_generated|testdata' || true; } | xargs -r -n1 dirname | sort -u
}
vendored() { sed 's#^#vendor/#'; }
generate() {
    local package=$1
    shift
    "$generator" --logtostderr -i "$(printf 'k8s.io/kubernetes/%s\n' "$@" | paste -sd,)" -p "k8s.io/kubernetes/$package" \
        -O zz_generated.openapi -h vendor/k8s.io/code-generator/hack/boilerplate.go.txt -r "$work/violations"
}
mapfile -t core < <({
    tagged pkg plugin cmd
    (cd staging/src && tagged k8s.io | grep -vE '^k8s.io/(code-generator|sample-apiserver)/') | vendored
    (cd vendor && tagged k8s.io/*) | vendored
} | sort -u)
mapfile -t aggregator < <(cd staging/src && tagged k8s.io/apimachinery k8s.io/kube-aggregator | vendored)
mapfile -t extensions < <(cd staging/src && { tagged k8s.io/apimachinery k8s.io/apiextensions-apiserver; echo k8s.io/api/autoscaling/v1; } | vendored)
generate pkg/generated/openapi "${core[@]}"
generate staging/src/k8s.io/kube-aggregator/pkg/generated/openapi "${aggregator[@]}"
generate staging/src/k8s.io/apiextensions-apiserver/pkg/generated/openapi "${extensions[@]}"

package=k8s.io/kubernetes/vendor/k8s.io
IFS=. read -r major minor _ <<<"$version"
flags="-s -w"
for base in component-base/version client-go/pkg/version; do
    flags+=" -X $package/$base.gitVersion=v$version -X $package/$base.gitMajor=$major -X $package/$base.gitMinor=$minor -X $package/$base.gitTreeState=clean"
done
for program in kubelet kube-apiserver kube-controller-manager kube-scheduler kubectl; do
    say "compiling $program $version"
    go build -ldflags "$flags" -o "$work/bin/$program" "k8s.io/kubernetes/cmd/$program"
done
mkdir -p "$out"
mv "$work"/bin/* "$out/"
[ -z "${OWNER:-}" ] || chown -R "$OWNER" "$out"
say "done: $out"
