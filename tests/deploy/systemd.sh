# The unit for systemd; sourced by tests/deploy/run.

unit=deploy/token-broker.service

# The highest exposure that `systemd-analyze security` may find, in tenths.
EXPOSURE=20

check_systemd() {
  debian systemd-analyze systemd || return 0
  broker
  unit_is_well_formed
  systemd-analyze security --offline=true --threshold="$EXPOSURE" --no-pager "$unit" | tail -n 1 ||
    fail "$unit is exposed to more than $EXPOSURE tenths"
  ((EUID == 0)) || lacks "root, to boot a container with the unit in it" || return 0
  debian systemd-nspawn systemd-container || return 0
  it_runs_under_systemd
}

# Verified where its program and the units that it names are.
unit_is_well_formed() {
  local root=$scratch/verified said
  mkdir -p "$root"/{usr/local/bin,usr/bin,usr/lib,etc/systemd/system}
  ln -s usr/bin "$root/bin"
  cp "$TOKEN_BROKER" "$root/usr/local/bin/token-broker"
  cp /bin/kill "$root/usr/bin/kill"
  cp -r /usr/lib/systemd "$root/usr/lib/systemd"
  cp "$unit" "$root/etc/systemd/system/"
  # Unknown settings are only worth a line to it.
  said=$(systemd-analyze verify --man=no --root="$root" token-broker.service 2>&1) || fail "systemd-analyze verify: $said"
  [[ -z $said ]] || fail "systemd-analyze verify: $said"
  sed 's/^RestartSec=/RestartSecs=/' "$unit" >"$root/etc/systemd/system/token-broker.service"
  said=$(systemd-analyze verify --man=no --root="$root" token-broker.service 2>&1) || true
  [[ $said == *RestartSecs* ]] || fail "a wrong unit went unnoticed"
  rm -rf "$root"
}

# Boots a container on this machine's own /usr, with all else in memory, and follows docs/systemd.md in it.
it_runs_under_systemd() {
  local site=$scratch/site
  mkdir -p "$site"/{local/bin,etc,results}
  [[ -d $scratch/trial ]] || trial
  cp "$scratch"/trial/{ca.pem,server.pem,server.key,client.pem,client.key} "$site/etc/"
  mkdir -p "$site/etc/credentials/shop"
  echo one-id >"$site/etc/credentials/shop/client_id"
  echo one-secret >"$site/etc/credentials/shop/client_secret"
  cp tests/deploy/site.toml "$site/etc/token-broker.toml"
  cp tests/deploy/under_systemd "$site/local/bin/"
  # What a reader of docs/systemd.md has at hand, and types.
  mkdir -p "$site/hand/deploy"
  cp "$TOKEN_BROKER" "$site/hand/token-broker"
  cp "$unit" "$site/hand/deploy/"
  python3 tests/deploy/blocks.py sh docs/systemd.md >"$site/hand/commands"
  cat >"$site/probe.service" <<-'UNIT'
	[Unit]
	After=basic.target
	Wants=basic.target
	FailureAction=poweroff-force
	SuccessAction=poweroff-force
	[Service]
	Type=oneshot
	TimeoutStartSec=90
	ExecStart=/usr/local/bin/under_systemd
	StandardOutput=file:/results/log
	StandardError=file:/results/log
	UNIT
  # Only what is asked for starts: not what happens to be installed here, nor what asks a person at a first boot.
  echo 'disable *' >"$site/none.preset"
  timeout 120 systemd-nspawn --quiet --register=no --keep-unit --directory=/ --volatile=yes --private-network \
    --machine="token-broker-$$" --bind-ro=/dev/null:/etc/systemd/system/systemd-firstboot.service \
    --bind="$site/local:/usr/local" --bind-ro="$site/none.preset:/etc/systemd/system-preset/00-none.preset" \
    --bind-ro="$site/hand:/hand" \
    --bind-ro="$site/probe.service:/etc/systemd/system/probe.service" \
    --bind="$site/etc:/etc/token-broker" --bind="$site/results:/results" \
    --boot -- --unit=probe.service </dev/null >"$site/console" 2>&1 || true
  cat "$site/results/log" 2>/dev/null || fail "the container did not boot: $(tail -n 20 "$site/console")"
  grep -qx 'the unit does what it should' "$site/results/log" || fail "the unit does not do what it should"
}
