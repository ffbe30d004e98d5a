// Keys and small conveniences of the review pages. Everything here can also be done with the pages' own buttons and links.
"use strict";
(() => {
  const typing = (element) => element instanceof HTMLElement && (element.matches("textarea, select, input[type=search], input[type=text]") || element.isContentEditable);
  const form = () => document.getElementById("answers");
  const fieldsets = () => [...document.querySelectorAll("#answers fieldset")];
  const visible = (fieldset) => [...fieldset.querySelectorAll(".choice")].filter((choice) => !choice.hidden);
  let active = 0; // place of the question that number keys answer

  function activate(place) {
    const all = fieldsets();
    active = Math.max(0, Math.min(place, all.length - 1));
    all.forEach((fieldset, i) => fieldset.classList.toggle("active", all.length > 1 && i === active));
    const fieldset = all[active];
    if (!fieldset) return;
    const find = fieldset.querySelector("[data-find]");
    if (fieldset.hasAttribute("data-many") && !matchMedia("(hover: none)").matches) find.focus({ preventScroll: true });
    else if (typing(document.activeElement)) document.activeElement.blur();
    if (all.length > 1) fieldset.scrollIntoView({ block: "nearest" });
  }

  // What is chosen or written and not sent yet comes back when the tab does: it is kept in the tab alone.
  const draft = () => `draft ${form().elements.id.value}`;

  function keep() {
    const checked = [...form().querySelectorAll(".choice input:checked")].map((input) => [input.name, input.value]);
    sessionStorage.setItem(draft(), JSON.stringify({ note: document.getElementById("note").value, checked }));
  }

  function restore() {
    const kept = JSON.parse(sessionStorage.getItem(draft()) || "null");
    if (!kept) return;
    document.getElementById("note").value = kept.note;
    for (const input of form().querySelectorAll(".choice input")) {
      input.checked = kept.checked.some(([name, value]) => name === input.name && value === input.value);
    }
  }

  function begin() {
    if (form()) restore();
    for (const fieldset of fieldsets()) if (fieldset.hasAttribute("data-many")) fieldset.querySelector(".find").hidden = false;
    if (form()) activate(0);
  }

  function take(fieldset, choice) {
    if (!choice) return;
    if (form().dataset.mode === "once") return choice.click();
    const input = choice.querySelector("input");
    input.checked = input.type === "checkbox" ? !input.checked : true;
    keep();
    const find = fieldset.querySelector("[data-find]");
    if (find.value) { find.value = ""; narrow(find); }
    if (input.type === "radio") onward();
  }

  function onward() {
    if (active + 1 < fieldsets().length) activate(active + 1);
    else document.getElementById("save").focus();
  }

  function narrow(find) {
    const wanted = find.value.trim().toLowerCase();
    const fieldset = find.closest("fieldset");
    const choices = [...fieldset.querySelectorAll(".choice")];
    const begins = (name) => name.toLowerCase().split(/[\s_/-]+/).some((_, i, words) => words.slice(i).join(" ").startsWith(wanted.replace(/[\s_/-]+/g, " ")));
    for (const choice of choices) {
      choice.hidden = wanted !== "" && !begins(choice.dataset.name);
      choice.classList.remove("first");
    }
    const shown = visible(fieldset).sort((a, b) => b.dataset.name.toLowerCase().startsWith(wanted) - a.dataset.name.toLowerCase().startsWith(wanted));
    if (wanted && shown[0]) shown[0].classList.add("first");
  }

  function keyInFind(event) {
    const find = event.target, fieldset = find.closest("fieldset");
    if (event.key === "Enter") {
      event.preventDefault();
      if (find.value.trim()) take(fieldset, fieldset.querySelector(".choice.first"));
      else if (form().dataset.mode !== "once") onward();
    } else if (event.key === "Escape") {
      find.value = "";
      narrow(find);
      find.blur();
    }
  }

  document.addEventListener("input", (event) => {
    if (event.target.matches("[data-find]")) narrow(event.target);
    else if (form() && form().contains(event.target)) keep();
  });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const target = event.target;
    if (target.matches && target.matches("[data-find]")) return keyInFind(event);
    if (typing(target)) {
      if (event.key === "Escape") target.blur();
      return;
    }
    if (event.repeat) return; // a key that is held down must not label what comes next
    const press = (id) => { const found = document.getElementById(id); if (found) { event.preventDefault(); found.click(); } };
    const focus = (id) => { const found = document.getElementById(id); if (found) { event.preventDefault(); found.focus(); } return found; };
    if (/^[1-9]$/.test(event.key) && form()) {
      const fieldset = fieldsets()[active];
      if (fieldset && !fieldset.hasAttribute("data-many")) { event.preventDefault(); take(fieldset, visible(fieldset)[Number(event.key) - 1]); }
    } else if (event.key === "Enter" && form() && form().dataset.mode === "several" && !target.matches("button, a, summary")) {
      event.preventDefault();
      onward();
    } else if (event.key === "s") press("skip");
    else if (event.key === "u") press("undo");
    else if (event.key === "r") press("reveal");
    else if (event.key === "n") focus("note");
    else if (event.key === "/") {
      event.preventDefault();
      if (!focus("q")) location.assign("/texts#q");
    } else if (event.key === "l") location.assign("/label");
  });

  document.addEventListener("focusin", (event) => {
    const place = fieldsets().indexOf(event.target.closest ? event.target.closest("fieldset") : null);
    if (place >= 0 && place !== active) {
      active = place;
      fieldsets().forEach((fieldset, i) => fieldset.classList.toggle("active", fieldsets().length > 1 && i === active));
    }
  });

  const status = (message) => {
    const line = document.getElementById("status");
    line.textContent = message;
    line.hidden = !message;
  };
  // What was sent and not stored stays on the page: sent again, it is stored once.
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.requestConfig.verb === "post" && event.detail.xhr.status < 400 && form()) sessionStorage.removeItem(draft());
  });
  document.addEventListener("htmx:sendError", () => status("The server does not answer, so this was not stored. Start it again and press the key once more."));
  document.addEventListener("htmx:responseError", (event) => {
    const page = new DOMParser().parseFromString(event.detail.xhr.responseText, "text/html");
    const told = page.querySelector(".problem");
    status(told ? told.textContent : `The server refused this (${event.detail.xhr.status}); nothing was stored.`);
  });
  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.target !== document.body && event.detail.boosted !== true) return;
    document.getElementById("main").focus({ preventScroll: true });
    scrollTo(0, 0);
    begin();
  });
  addEventListener("DOMContentLoaded", () => {
    begin();
    if (location.hash === "#q") document.getElementById("q")?.focus();
  });
})();
