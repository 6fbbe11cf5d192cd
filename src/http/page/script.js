// Fetches the page again every two seconds and puts in what has changed. Without it the page
// is whole, and as of when it was loaded.
"use strict";

const EVERY = 2000; // milliseconds
const PATIENCE = 5000;

const live = document.getElementById("live");
const search = document.getElementById("q");
// What each element was made of; `open` is the reader's and not the broker's.
const sources = new WeakMap();
let timer;
let asking;
let heard = new Date();

document.documentElement.classList.add("scripted");
for (const element of document.querySelectorAll("[data-live], [data-rows] > li")) {
  sources.set(element, element.outerHTML);
}

async function look() {
  clearTimeout(timer);
  asking?.abort();
  const mine = (asking = new AbortController());
  const patience = setTimeout(() => mine.abort(), PATIENCE);
  const began = performance.now();
  try {
    const answer = await fetch(location.href, { signal: mine.signal, cache: "no-store" });
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    const text = await answer.text();
    if (mine !== asking) return;
    take(new DOMParser().parseFromString(text, "text/html"));
    heard = new Date();
    say("Live", false);
  } catch (error) {
    if (mine !== asking) return;
    const since = `${heard.toISOString().slice(11, 19)} UTC`;
    const why = /^HTTP/.test(error.message) ? ` (${error.message})` : "";
    say(`The broker has not answered since ${since}${why}. This is what it said then.`, true);
  } finally {
    clearTimeout(patience);
  }
  // A slow broker, or a page of thousands, is asked less often.
  const pause = Math.max(EVERY, 4 * (performance.now() - began));
  if (!document.hidden) timer = setTimeout(look, pause);
}

function say(words, lost) {
  // Read aloud only when it changes.
  if (live.textContent !== words) live.textContent = words;
  live.classList.toggle("lost", lost);
  document.documentElement.classList.toggle("stale", lost);
  if (lost) document.title = "No answer · token-broker";
}

function take(page) {
  if (page.documentElement.dataset.version !== document.documentElement.dataset.version) {
    location.reload(); // of another version, whose style and script are others, too
    return;
  }
  // Asked once: each of these questions may cost a layout.
  const selection = getSelection();
  const reader = {
    focus: document.activeElement,
    selection: selection.isCollapsed ? null : selection,
  };
  document.title = page.title;
  document.querySelector("link[rel=icon]").href = page.querySelector("link[rel=icon]").href;
  for (const now of page.querySelectorAll("[data-live]")) {
    const before = document.getElementById(now.id);
    if (before) put(before, now, reader);
  }
  takeRows(document.querySelector("[data-rows]"), page.querySelector("[data-rows]"), reader);
}

// Each row that stays is the same element for as long as nothing of it changes, so that the
// reader keeps the place, the selection and what is open.
function takeRows(list, page, reader) {
  const before = new Map([...list.children].map((row) => [row.id, row]));
  let at = list.firstElementChild;
  for (const now of [...page.children]) {
    const known = before.get(now.id);
    before.delete(now.id);
    if (known && known === at) {
      at = at.nextElementSibling;
      put(known, now, reader);
      continue;
    }
    const row = known ? put(known, now, reader) : adopt(now);
    list.insertBefore(row, at);
  }
  for (const gone of before.values()) gone.remove();
}

// Puts an element in the place of another, unless they are the same or the reader is about to
// copy from it.
function put(before, now, reader) {
  const source = now.outerHTML;
  if (sources.get(before) === source || reader.selection?.containsNode(before, true)) return before;
  const focused = before.contains(reader.focus) ? focusOf(reader.focus) : null;
  const wasOpen = before.querySelector("details")?.open;
  const element = adopt(now);
  if (wasOpen) element.querySelector("details").open = true;
  before.replaceWith(element);
  if (focused) focused(element);
  return element;
}

function adopt(now) {
  const source = now.outerHTML;
  const element = document.importNode(now, true);
  sources.set(element, source);
  return element;
}

// How to focus again what has the focus: it has an id, or is a link.
function focusOf(focus) {
  const { id } = focus;
  const href = focus.getAttribute("href");
  return (other) => {
    const links = [...other.querySelectorAll("a")];
    const same = id ? document.getElementById(id) : links.find((a) => a.getAttribute("href") === href);
    same?.focus({ preventScroll: true });
  };
}

// Filtering is the broker's, so that it works on all destinations however many are shown.
let typing;
search.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    const address = new URL(location.href);
    address.searchParams.delete("all");
    if (search.value.trim()) address.searchParams.set("q", search.value.trim());
    else address.searchParams.delete("q");
    history.replaceState(null, "", address);
    look();
  }, 150);
});
search.form.addEventListener("submit", (event) => {
  event.preventDefault();
  search.dispatchEvent(new Event("input"));
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else look();
});
if (!document.hidden) timer = setTimeout(look, EVERY);
say("Live", false);
