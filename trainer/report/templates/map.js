const dots = document.getElementById("dots");
if (dots) {
  const pointed = document.getElementById("pointed");
  const circles = [...dots.querySelectorAll("circle")];
  let view = { x: 0, y: 0, size: 100 }, here = null, drag = null, question = "";
  const show = () => {
    view.size = Math.min(100, Math.max(2, view.size));
    for (const axis of ["x", "y"]) view[axis] = Math.min(100 - view.size, Math.max(0, view[axis]));
    dots.setAttribute("viewBox", `${view.x} ${view.y} ${view.size} ${view.size}`);
    dots.style.setProperty("--zoom", 100 / view.size);
  };
  const zoom = (by, x = view.x + view.size / 2, y = view.y + view.size / 2) => {
    const size = by ? Math.min(100, Math.max(2, view.size / by)) : 100;
    view = { x: x - (x - view.x) * size / view.size, y: y - (y - view.y) * size / view.size, size };
    show();
  };
  const place = (event) => {
    const box = dots.getBoundingClientRect();
    return [view.x + (event.clientX - box.left) / box.width * view.size, view.y + (event.clientY - box.top) / box.height * view.size];
  };
  const read = (circle) => {
    if (circle === here) return;
    here?.classList.remove("here");
    here = circle;
    circle.classList.add("here");
    const quote = document.createElement("blockquote"), said = document.createElement("p");
    quote.dir = "auto";
    quote.textContent = circle.dataset.text;
    said.className = "muted";
    said.textContent = circle.dataset[`said${question}`] ?? circle.dataset.said;
    pointed.replaceChildren(said, quote);
  };
  const ask = document.getElementById("map-question");
  if (ask) {
    ask.parentElement.hidden = false;
    const turn = () => {
      question = ask.value;
      for (const circle of circles) circle.setAttribute("class", circle.dataset[`class${question}`]);
      for (const legend of document.querySelectorAll(".legend[data-question]")) legend.hidden = legend.dataset.question !== question;
      dots.setAttribute("aria-label", ask.selectedOptions[0].dataset.summary);
      const shown = here;
      here = null;
      if (shown) read(shown);
    };
    ask.addEventListener("change", turn);
    turn(); // a page that is loaded again keeps what was chosen
  }
  const nearest = (event) => {
    const [x, y] = place(event);
    let best = null, least = (3 * view.size / 100) ** 2;
    for (const circle of circles) {
      const far = (circle.cx.baseVal.value - x) ** 2 + (circle.cy.baseVal.value - y) ** 2;
      if (far < least) [best, least] = [circle, far];
    }
    if (best) read(best);
  };
  for (const input of document.querySelectorAll("input[name=by]")) {
    input.addEventListener("change", () => { dots.dataset.by = input.value; });
    if (input.checked) dots.dataset.by = input.value;
  }
  const buttons = document.querySelector(".zoom");
  buttons.hidden = false;
  for (const button of buttons.children) button.addEventListener("click", () => zoom(Number(button.dataset.zoom)));
  dots.tabIndex = 0;
  dots.addEventListener("pointerdown", (event) => { drag = { at: [event.clientX, event.clientY], x: view.x, y: view.y }; nearest(event); });
  dots.addEventListener("pointermove", (event) => {
    if (!drag || !event.buttons) return nearest(event);
    const scale = view.size / dots.getBoundingClientRect().width;
    view.x = drag.x - (event.clientX - drag.at[0]) * scale;
    view.y = drag.y - (event.clientY - drag.at[1]) * scale;
    show();
  });
  for (const end of ["pointerup", "pointerleave", "pointercancel"]) dots.addEventListener(end, () => { drag = null; });
  dots.addEventListener("dblclick", (event) => zoom(2, ...place(event)));
  dots.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 200), ...place(event));
  }, { passive: false });
  dots.addEventListener("keydown", (event) => {
    const step = view.size / 8, moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (event.key in moves) { view.x += moves[event.key][0]; view.y += moves[event.key][1]; show(); }
    else if (event.key === "+" || event.key === "=") zoom(1.6);
    else if (event.key === "-") zoom(0.625);
    else if (event.key === "0") zoom(0);
    else return;
    event.preventDefault();
  });
}
