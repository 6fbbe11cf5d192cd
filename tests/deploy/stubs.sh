# Stands in for what a test machine lacks, while the commands of docs/kubernetes.md are run as they stand there: `helm`
# renders instead of installing, and `kubectl` looks whether what is named is there.

manifest=$STUBS/manifest.yaml

helm() {
  [[ "$1 $2" == "upgrade --install" && ${!#} == --wait ]] || unexpected helm "$@"
  "$HELM_PROGRAM" template "${@:3:$#-3}" --kube-version "$KUBE_VERSION" >"$manifest"
}

kubectl() {
  local arguments=" $* " file name
  for name in $(grep -oE -- '--(from-file|cert|key)=[^ ]+' <<<"$arguments" | cut -d= -f2); do
    [[ -s $name ]] || { echo "kubectl $*: there is no $name" >&2; exit 1; }
  done
  case $arguments in
    *" create namespace token-broker "* | *" label namespace token-broker pod-security.kubernetes.io/enforce=restricted "*) ;;
    *" create secret "*)
      name=$(sed -E 's/.* secret (tls|generic) ([a-z-]+) .*/\2/' <<<"$arguments")
      # Each is one that a committed manifest mounts.
      grep -qhE "(secretName|name): $name\$" deploy/kubernetes/*.yaml || { echo "nothing mounts $name" >&2; exit 1; }
      ;;
    *" rollout status deployment/token-broker "* | *" logs deployment/token-broker "*)
      grep -q 'kind: Deployment' "$manifest" && grep -q '^  name: token-broker$' "$manifest"
      ;;
    *" apply --filename "*)
      file=${arguments##*--filename }
      [[ -s ${file% } ]]
      ;;
    *) unexpected kubectl "$@" ;;
  esac
}

unexpected() {
  echo "the documents have a command that the test does not know: $*" >&2
  exit 1
}
