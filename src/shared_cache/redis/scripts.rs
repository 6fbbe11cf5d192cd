//! The steps that are atomic, in Lua.
//!
//! A slot is a hash: `t` and `f` are its sealed token and failure, `t:until` and `f:until` the
//! moments after which they are of no use, `fence` the number of its last turn, and `kept` the
//! number of the last turn that has kept something. Moments are milliseconds of the server's
//! clock, which is the one that all replicas have in common.

use std::sync::LazyLock;

use ::redis::{Cmd, ErrorKind, RedisError, Script, ServerErrorKind, Value, cmd};

use super::{Name, wire::Wire};
use crate::shared_cache::store::MOST_REPLICAS;

/// What is larger is none of ours, and not read further. A token has 16 KiB at most, what an
/// operator says 4 KiB; and as much as this, a thousand times, may wait to be heard.
pub(super) const MAX_VALUE: usize = 20 * 1024;

/// No more quarantines and releases are read.
pub(super) const MAX_QUARANTINES: usize = 10_000;

/// What a replica tells of itself is smaller.
pub(super) const MAX_BEAT: usize = 1024;

/// What a replica tells of itself is not for longer, in milliseconds, and nor is what all of them do
/// once none is left.
const LONGEST_BEAT: &str = "60000";

/// A slot is remembered for so long at least: a flight that outlived its turn must not keep
/// what was forgotten meanwhile.
const MEMORY: &str = "600000";

/// What the other steps are made of.
const WORDS: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local slot = KEYS[1]

local function alive(kind)
  local kept = redis.call('HMGET', slot, kind, kind .. ':until')
  return kept[1] and now < (tonumber(kept[2]) or 0) and kept[1]
end

local function number(field)
  local number = tonumber(redis.call('HGET', slot, field)) or 0
  if number >= 0 and number < 2^52 then return math.floor(number) else return 0 end
end

local function remember(least)
  least = math.max(least, MEMORY)
  if redis.call('PTTL', slot) < least then redis.call('PEXPIRE', slot, least) end
end
";

/// Of what is too large just enough is told to show that it is.
const LOOK: &str = "
local found = {}
for _, kind in ipairs({'t', 'f'}) do
  local sealed = alive(kind)
  if sealed then
    table.insert(found, kind)
    table.insert(found, string.sub(sealed, 1, MAX_VALUE + 1))
  end
end
return found
";

/// What is too large was kept by nobody, and is overwritten by whoever mints.
const BEGIN: &str = "
local turn, owner, life = KEYS[2], ARGV[1], tonumber(ARGV[2])
local seen = {}
for i = 3, #ARGV do seen[ARGV[i]] = true end
local found, is_new = {'found'}, false
for _, kind in ipairs({'t', 'f'}) do
  local sealed = alive(kind)
  if sealed and #sealed <= MAX_VALUE then
    table.insert(found, kind)
    table.insert(found, sealed)
    is_new = is_new or not seen[string.sub(sealed, 1, HEAD)]
  end
end
if is_new then return found end
if not redis.call('SET', turn, owner, 'NX', 'PX', life) then
  local left = redis.call('PTTL', turn)
  if left < 0 then
    redis.call('PEXPIRE', turn, life)
    left = life
  end
  return {'held', left}
end
local fence = math.max(number('fence'), number('kept')) + 1
redis.call('HSET', slot, 'fence', fence)
remember(life + MEMORY)
return {'granted', fence}
";

/// The message says what is kept: its kind, the name, and from its 18th byte on what is sealed.
const FINISH: &str = "
local turn, channel = KEYS[2], ARGV[1]
local owner, fence, message, lasts = ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local lasted = 1
if owner ~= '' then
  if redis.call('GET', turn) == owner then redis.call('DEL', turn) else lasted = 0 end
end
if message == '' then return lasted end
local kept = number('kept')
fence = fence or math.max(number('fence'), kept) + 1
if kept >= fence then return lasted end
local kind = string.sub(message, 1, 1)
redis.call('HSET', slot, kind, string.sub(message, 18), kind .. ':until', now + lasts, 'kept', fence)
if kind == 't' then redis.call('HDEL', slot, 'f', 'f:until') end
remember(lasts)
redis.call('PUBLISH', channel, message)
return lasted
";

/// A turn that is under way is older than the one that is counted here, and keeps nothing.
const FORGET: &str = "
redis.call('DEL', KEYS[2])
if redis.call('EXISTS', slot) == 0 then return 0 end
local fence = math.max(number('fence'), number('kept')) + 1
redis.call('HDEL', slot, 't', 't:until', 'f', 'f:until')
redis.call('HSET', slot, 'fence', fence, 'kept', fence)
remember(0)
return 1
";

/// As much of it as is told of a token.
const PAUSE: &str = "
local pause = redis.call('GET', KEYS[1])
return pause and string.sub(pause, 1, MAX_VALUE + 1)
";

/// How many are left out, since they are none of ours or too many; and the others.
const QUARANTINES: &str = "
local kept = redis.call('HGETALL', KEYS[1])
local told, left_out = {0}, 0
for i = 1, #kept, 2 do
  if #kept[i] == NAME and #kept[i + 1] <= MAX_VALUE and #told < 2 * MAX_QUARANTINES then
    table.insert(told, kept[i])
    table.insert(told, kept[i + 1])
  else
    left_out = left_out + 1
  end
end
told[1] = left_out
return told
";

const KEEP_PAUSE: &str = "
local channel, message, lasts = ARGV[1], ARGV[2], tonumber(ARGV[3])
if redis.call('PTTL', KEYS[1]) >= lasts then return 0 end
redis.call('SET', KEYS[1], string.sub(message, 18), 'PX', lasts)
redis.call('PUBLISH', channel, message)
return 1
";

const KEEP_QUARANTINE: &str = "
local channel, message, name = ARGV[1], ARGV[2], ARGV[3]
for i = 4, #ARGV do redis.call('HDEL', KEYS[1], ARGV[i]) end
redis.call('HSET', KEYS[1], name, string.sub(message, 18))
redis.call('PUBLISH', channel, message)
return 1
";

/// A field is what a replica tells: the moment until which it is of use, a colon, and what is sealed.
/// Fields do not expire by themselves, so whoever comes by takes out what is of no use any more,
/// whoever wrote it. If there is so much that it cannot be from replicas, or something else in its
/// place, all of it goes: those that are there tell again in a few seconds.
const BEAT: &str = "
local hash, sealed, lasts, own = KEYS[1], ARGV[1], tonumber(ARGV[2]), {}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local kept = redis.pcall('HGETALL', hash)
local is_other = kept.err and string.find(kept.err, 'WRONGTYPE', 1, true)
if kept.err and not is_other then return kept end
if is_other or #kept > 4 * MOST_REPLICAS then
  redis.call('DEL', hash)
  kept = {}
end
if sealed ~= '' then
  redis.call('HSET', hash, ARGV[3], string.format('%.0f:', now + lasts) .. sealed)
  redis.call('PEXPIRE', hash, LONGEST_BEAT)
end
for i = 3, #ARGV do
  own[ARGV[i]] = true
  if i > 3 or sealed == '' then redis.call('HDEL', hash, ARGV[i]) end
end
local told, odd = {0}, 0
for i = 1, #kept, 2 do
  local name, value = kept[i], kept[i + 1]
  local last, from = string.match(value, '^(%d+):()')
  last = tonumber(last) or 0
  local is_odd = #name ~= NAME or #value > MAX_BEAT or last == 0 or last > now + LONGEST_BEAT
  if not own[name] then
    if is_odd then odd = odd + 1 end
    if is_odd or last <= now then
      redis.call('HDEL', hash, name)
    elseif #told < 2 * MOST_REPLICAS then
      table.insert(told, name)
      table.insert(told, string.sub(value, from))
    end
  end
end
told[1] = odd
return told
";

/// One of the steps.
pub(super) struct Step {
    lua: String,
    pub(super) hash: String,
}

pub(super) static LOOK_STEP: LazyLock<Step> = LazyLock::new(|| Step::new(WORDS, LOOK));
pub(super) static BEGIN_STEP: LazyLock<Step> = LazyLock::new(|| Step::new(WORDS, BEGIN));
pub(super) static FINISH_STEP: LazyLock<Step> = LazyLock::new(|| Step::new(WORDS, FINISH));
pub(super) static FORGET_STEP: LazyLock<Step> = LazyLock::new(|| Step::new(WORDS, FORGET));
pub(super) static PAUSE_STEP: LazyLock<Step> = LazyLock::new(|| Step::new("", PAUSE));
pub(super) static KEEP_PAUSE_STEP: LazyLock<Step> = LazyLock::new(|| Step::new("", KEEP_PAUSE));
pub(super) static QUARANTINES_STEP: LazyLock<Step> = LazyLock::new(|| Step::new("", QUARANTINES));
pub(super) static KEEP_QUARANTINE_STEP: LazyLock<Step> =
    LazyLock::new(|| Step::new("", KEEP_QUARANTINE));
pub(super) static BEAT_STEP: LazyLock<Step> = LazyLock::new(|| Step::new("", BEAT));

impl Step {
    fn new(words: &str, step: &str) -> Self {
        let lua = format!("{words}{step}")
            .replace("MEMORY", MEMORY)
            .replace("MAX_VALUE", &MAX_VALUE.to_string())
            .replace("MAX_QUARANTINES", &MAX_QUARANTINES.to_string())
            .replace("MOST_REPLICAS", &MOST_REPLICAS.to_string())
            .replace("MAX_BEAT", &MAX_BEAT.to_string())
            .replace("LONGEST_BEAT", LONGEST_BEAT)
            .replace("NAME", &Name::LENGTH.to_string())
            .replace("HEAD", &super::super::sealed::HEAD.to_string());
        let hash = Script::new(&lua).get_hash().to_owned();
        Self { lua, hash }
    }

    /// Runs it where its keys are. A server that does not know it yet is sent all of it.
    pub(super) async fn run(
        &self,
        wire: &Wire,
        keys: &[String],
        arguments: &[&[u8]],
    ) -> Result<Value, RedisError> {
        let call = |command: &str, script: &str| -> Cmd {
            let mut call = cmd(command);
            call.arg(script).arg(keys.len()).arg(keys).arg(arguments);
            call
        };
        match wire.ask(&call("EVALSHA", &self.hash)).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                wire.ask(&call("EVAL", &self.lua)).await
            }
            answer => answer,
        }
    }
}
