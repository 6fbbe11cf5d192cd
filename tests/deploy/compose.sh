# deploy/compose; sourced by tests/deploy/run. There is no engine for containers on every machine, so the file is held
# to the Compose Specification, and the same configurations run as plain processes, with other addresses.

check_compose() {
  go_program compose-spec github.com/compose-spec/compose-go/v2/cmd "$COMPOSE_SPEC" || return 0
  have openssl || return 0
  have curl || return 0
  have python3 || return 0
  debian redis-server redis-server || return 0
  debian prometheus prometheus || return 0
  broker
  local site=$scratch/compose
  cp -r deploy "$scratch/deploy"
  mv "$scratch/deploy/compose" "$site"
  rm -rf "$site/secrets"
  mv "$scratch/deploy/prometheus" "$scratch/prometheus" 2>/dev/null || true
  mv "$scratch/deploy/grafana" "$scratch/grafana" 2>/dev/null || true
  "$site/prepare"
  "$site/prepare" 2>&1 | grep -q 'there already' || fail "prepare made new secrets over the old ones"
  (cd "$site" && compose_is_well_formed compose.yaml)
  the_parts_work_together "$site"
}

compose_is_well_formed() {
  local spec=$tools/compose-spec-$COMPOSE_SPEC/cmd said
  "$spec" -format json "$1" >"$scratch/compose.json" || fail "$1 is not valid"
  said=$(sed 's/read_only:/readonly:/' "$1" >"$1.wrong" && "$spec" "$1.wrong" 2>&1) && fail "a wrong file went unnoticed"
  rm "$1.wrong"
  python3 - "$scratch/compose.json" <<-'PYTHON'
	import json, os, sys
	services = json.load(open(sys.argv[1]))["services"]
	for name, service in services.items():
	    assert service["cap_drop"] == ["ALL"], f"{name} keeps capabilities"
	    assert "no-new-privileges:true" in service["security_opt"], f"{name} may gain privileges"
	    for port in service.get("ports", []):
	        assert port["host_ip"] == "127.0.0.1", f"{name} is open to the network"
	    for volume in service.get("volumes", []):
	        if volume["type"] == "bind":
	            assert os.path.isdir(volume["source"]), f"{name} mounts {volume['source']}, which is no folder"
	            assert volume["read_only"], f"{name} may write to {volume['source']}"
	print(f"compose.yaml: {len(services)} services, as the specification says")
	PYTHON
}

the_parts_work_together() {
  local site=$1 ports one two
  read -r -a ports < <(free_ports 8)
  local redis=${ports[0]} upstream=${ports[1]} prometheus=${ports[2]}
  sed "s#^tls-port .*#tls-port $redis\nbind 127.0.0.1#; s#/run/secrets/redis#$site/secrets/redis#" \
    "$site/redis/redis.conf" >"$site/redis.conf"
  (cd "$site" && exec redis-server redis.conf) >"$site/redis.log" 2>&1 &
  started+=($!)
  "$TOKEN_BROKER" upstream --listen "127.0.0.1:$upstream" >"$site/upstream.log" 2>&1 &
  started+=($!)

  local number
  for number in 1 2; do
    sed "s#0.0.0.0:7443#127.0.0.1:${ports[2 + number]}#; s#0.0.0.0:9464#127.0.0.1:${ports[4 + number]}#
      s#redis:6379#localhost:$redis#; s#127.0.0.1:8090#127.0.0.1:$upstream#
      s#/run/secrets/token-broker#$site/secrets/broker#" \
      "$site/broker/token-broker.toml" >"$site/broker-$number.toml"
    "$TOKEN_BROKER" config check "$site/broker-$number.toml"
  done
  until_it redis_answers "$site" "$redis"
  refuses "NOAUTH" redis-cli --no-auth-warning --tls --cacert "$site/secrets/redis/ca.pem" -e -h localhost -p "$redis" ping
  for number in 1 2; do
    "$TOKEN_BROKER" serve --config "$site/broker-$number.toml" >"$site/audit-$number" 2>"$site/log-$number" &
    started+=($!)
    until_it "$TOKEN_BROKER" health --http "http://127.0.0.1:${ports[4 + number]}"
  done

  compose_page "$site" "${ports[3]}" "${ports[4]}" || fail "the commands of docs/compose.md do not work: $(cat "$site/page.log")"
  # Both brokers hand out the token that one of them minted, each with a record of it.
  one=$(grep -om 1 '"token_id":"[0-9a-f]*"' "$site/audit-1") && two=$(grep -om 1 '"token_id":"[0-9a-f]*"' "$site/audit-2") ||
    fail "there is no record of what was handed out"
  [[ $one == "$two" ]] || fail "the brokers do not share: $one and $two"
  [[ $(grep -h '"kind":"mint"' "$site"/audit-* | wc -l) == 1 ]] || fail "the token was minted more than once"
  client "$site" you "${ports[3]}" destination quarantine product-catalogue-v2 --comment trial
  until_it quarantined "$site" "${ports[4]}"
  refuses "DESTINATION_QUARANTINED" client "$site" shop "${ports[4]}" token get product-catalogue-v2
  client "$site" you "${ports[4]}" destination release product-catalogue-v2
  echo "two brokers: one token, one quarantine, through Redis with TLS and a user of its own"

  sed "s#broker-1:9464#127.0.0.1:${ports[5]}#; s#broker-2:9464#127.0.0.1:${ports[6]}#
    s#/etc/prometheus-rules#$PWD/deploy/prometheus#; s#interval: 15s#interval: 1s#" \
    "$site/prometheus/prometheus.yml" >"$site/prometheus.yml"
  promtool check config "$site/prometheus.yml" >/dev/null || fail "the configuration of Prometheus is wrong"
  prometheus --config.file="$site/prometheus.yml" --storage.tsdb.path="$site/tsdb" \
    --web.listen-address="127.0.0.1:$prometheus" 2>"$site/prometheus.log" &
  started+=($!)
  until_it scraped "$prometheus"
  echo "Prometheus: scrapes both"
}

# The commands of docs/compose.md, but for docker, whose file and services have to be there.
compose_page() {
  local site=$1 first=$2 second=$3
  {
    echo set -euo pipefail
    # shellcheck disable=SC2016
    echo 'docker() { [[ "$1 $2" == "compose --file" && -s $3 ]] || { echo "unknown: docker $*" >&2; exit 1; }; }'
    python3 tests/deploy/blocks.py sh docs/compose.md | sed "s#localhost:7443#localhost:$first#; s#localhost:7444#localhost:$second#"
  } >"$site/commands"
  mkdir -p "$site/page/deploy" "$site/page/bin"
  ln -s "$site" "$site/page/deploy/compose"
  ln -s "$TOKEN_BROKER" "$site/page/bin/token-broker"
  (cd "$site/page" && PATH=$site/page/bin:$PATH bash ../commands) >"$site/page.log" 2>&1
}

redis_answers() {
  REDISCLI_AUTH=$(cat "$1/secrets/broker/redis.password") redis-cli --tls --cacert "$1/secrets/redis/ca.pem" -e \
    -h localhost -p "$2" --user token-broker ping
}

# The client, with one of the certificates of the trial.
client() {
  local site=$1 who=$2 port=$3
  shift 3
  "$TOKEN_BROKER" "$@" --endpoint "https://localhost:$port" --ca "$site/secrets/client/ca.pem" \
    --cert "$site/secrets/client/$who.pem" --key "$site/secrets/client/$who-key.pem"
}

quarantined() {
  client "$1" you "$2" destination list | grep -q quarantined
}

scraped() {
  curl --silent --fail --get "http://127.0.0.1:$1/api/v1/query" --data-urlencode 'query=sum(up{job="token-broker"})' |
    grep -q '"2"'
}

free_ports() {
  python3 - "$1" <<-'PYTHON'
	import socket, sys
	sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
	print(*(s.getsockname()[1] for s in sockets))
	PYTHON
}
