// Pictures that wait in the composer: their names, their order, their removal; and any picture large, with zoom.
(() => {
  "use strict";
  const ZOOMS = [1, 1.5, 2, 3, 4, 6, 8], PAN = 80;

  let arrange = files => files, focusAt = -1;
  const refusals = new Map(); // by address: why a file will not be taken

  // Once Gradio shows them: buttons to look, to move and to remove, by mouse, finger and keyboard.
  function dressThumbnails() {
    const composer = document.querySelector("#composer");
    if (!composer) return requestAnimationFrame(dressThumbnails);
    new MutationObserver(dress).observe(composer, {childList: true, subtree: true, attributeFilter: ["src"]});
  }

  function dress() {
    const items = [...document.querySelectorAll("#composer .thumbnail-item")];
    items.forEach((item, place) => {
      const small = item.querySelector("img");
      if (!small) return;
      const name = decodeURIComponent(small.src.split("/").at(-1)), key = `${name} ${place} ${items.length}`;
      if (small.alt !== name) small.alt = small.title = name;
      if (item.dataset.key === key) return;
      item.dataset.key = key;
      item.parentElement.setAttribute("aria-label", `Picture ${place + 1} of ${items.length}`);
      const remove = item.querySelector(".delete-button");
      remove.setAttribute("aria-label", `Remove “${name}”`);
      item.querySelector(".arranging")?.remove();
      const tools = Object.assign(document.createElement("span"), {className: "arranging"});
      const look = button("look", "", `Show “${name}” large`, () => show(small.src, name, "?size=whole"));
      look.setAttribute("aria-keyshortcuts", "ArrowLeft ArrowRight Delete");
      tools.append(look);
      if (place > 0) tools.append(button("earlier", "‹", `Move “${name}” one place earlier`, () => move(place, place - 1, name)));
      if (place < items.length - 1) tools.append(button("later", "›", `Move “${name}” one place later`, () => move(place, place + 1, name)));
      tools.addEventListener("keydown", event => onKey(event, place, items.length, name));
      item.append(tools);
    });
    tell(items.map(item => item.querySelector("img")?.src).filter(Boolean));
    const wanted = items[Math.min(focusAt, items.length - 1)]?.querySelector(".look");
    if (focusAt < 0) return;
    (wanted ?? document.querySelector("#composer textarea")).focus();
    focusAt = -1;
  }

  // What Send would say of these files is told when they are added.
  function tell(sources) {
    const words = sources.map(source => refusals.get(source)).filter(Boolean);
    let list = document.querySelector("#composer .refusals");
    if (!list && words.length) {
      list = document.createElement("div");
      list.className = "refusals";
      list.setAttribute("role", "alert");
      document.querySelector("#composer .thumbnails").before(list);
    }
    if (!list || list.dataset.told === words.join("\n")) return;
    list.dataset.told = words.join("\n");
    list.replaceChildren(...words.map(text => Object.assign(document.createElement("p"), {textContent: text})));
  }

  // The sign for a file that cannot be opened is known by its size.
  const isDamaged = picture => picture.naturalWidth === 159 && picture.naturalHeight === 161;

  async function onLoad({target}) {
    if (!target.matches?.("#composer .thumbnail-item img") || !isDamaged(target)) return;
    const {src} = target;
    try {
      const answer = await fetch(src, {method: "HEAD"});
      refusals.set(src, decodeURIComponent(answer.headers.get("X-Refused") ?? ""));
      dress();
    } catch {} // Send will say it
  }

  function onKey(event, place, many, name) {
    const to = {ArrowLeft: place - 1, ArrowRight: place + 1}[event.key];
    if (to >= 0 && to < many) move(place, to, name);
    else if (event.key === "Delete" || event.key === "Backspace") remove(place, name);
    else return;
    event.preventDefault();
  }

  function move(from, to, name) {
    change(files => files.toSpliced(from, 1).toSpliced(to, 0, files[from]), to);
    sightline.say(`“${name}” is picture ${to + 1} now.`);
  }

  function remove(place, name) {
    change(files => files.toSpliced(place, 1), place);
    sightline.say(`“${name}” is removed.`);
  }

  function change(how, place) {
    arrange = how;
    focusAt = place;
    document.querySelector("#arrange").click();
  }

  function arranged(composer) {
    const files = arrange(composer.files);
    arrange = same => same;
    return {...composer, files};
  }

  function button(kind, text, name, act) {
    const made = Object.assign(document.createElement("button"), {className: kind, textContent: text, title: name});
    made.type = "button";
    made.setAttribute("aria-label", name);
    made.addEventListener("click", event => {
      event.stopPropagation();
      act();
    });
    return made;
  }

  // A click on a picture of the chat shows it large. Gradio's own full screen is not to be had on every phone,
  // and keeps the size that the conversation gives the picture.
  function onPicture(event) {
    const pressed = event.target.closest?.("#chat .user-row .component button:not(.sees)");
    const small = pressed?.closest(".component").querySelector("img");
    if (!small) return;
    event.stopPropagation();
    show(small.src.replace("?size=small", ""), small.alt, "", small.src);
  }

  function show(source, name, query = "", meanwhile = source) {
    const large = document.createElement("dialog"), view = document.createElement("div");
    const tools = Object.assign(document.createElement("span"), {className: "zooms"});
    const picture = Object.assign(new Image(), {src: source + query, alt: name, draggable: false});
    let zoom = 0, dragged = false;
    large.id = "large-picture";
    large.setAttribute("aria-label", `Picture “${name}”`);
    picture.style.backgroundImage = `url("${meanwhile}")`; // until the whole picture is there
    picture.addEventListener("load", () => picture.style.backgroundImage = "");
    const smaller = button("smaller", "−", "Smaller", () => zoomTo(zoom - 1));
    const larger = button("larger", "+", "Larger", () => zoomTo(zoom + 1));
    const factor = Object.assign(document.createElement("output"), {textContent: "100 %"});
    tools.append(smaller, factor, larger, button("close", "×", "Close", () => large.close()));

    // What is in the middle stays there.
    function zoomTo(wanted) {
      const middle = [(view.scrollLeft + view.clientWidth / 2) / view.scrollWidth, (view.scrollTop + view.clientHeight / 2) / view.scrollHeight];
      zoom = Math.max(0, Math.min(wanted, ZOOMS.length - 1));
      picture.style.width = picture.style.height = `${100 * ZOOMS[zoom]}%`;
      view.scrollTo(middle[0] * view.scrollWidth - view.clientWidth / 2, middle[1] * view.scrollHeight - view.clientHeight / 2);
      factor.textContent = `${100 * ZOOMS[zoom]} %`;
      large.toggleAttribute("data-zoomed", zoom > 0);
      smaller.setAttribute("aria-disabled", zoom === 0); // not disabled, which would lose the focus
      larger.setAttribute("aria-disabled", zoom === ZOOMS.length - 1);
    }

    view.append(picture);
    large.append(view, tools);
    large.addEventListener("keydown", event => {
      const by = {"+": 1, "=": 1, "-": -1, 0: -zoom}[event.key];
      const pan = {ArrowLeft: [-PAN, 0], ArrowRight: [PAN, 0], ArrowUp: [0, -PAN], ArrowDown: [0, PAN]}[event.key];
      if (by !== undefined) zoomTo(zoom + by);
      else if (pan) view.scrollBy(...pan);
      else return;
      event.preventDefault();
    });
    view.addEventListener("wheel", event => {
      event.preventDefault();
      zoomTo(zoom - Math.sign(event.deltaY));
    }, {passive: false});
    view.addEventListener("pointermove", event => {
      if (!event.buttons || event.pointerType !== "mouse") return; // a finger scrolls by itself
      dragged ||= Math.abs(event.movementX) + Math.abs(event.movementY) > 2;
      view.scrollBy(-event.movementX, -event.movementY);
    });
    view.addEventListener("click", () => {
      if (!dragged && zoom === 0) large.close();
      dragged = false;
    });
    const before = document.activeElement;
    large.addEventListener("close", () => {
      large.remove();
      before?.focus?.();
    });
    document.querySelector(".gradio-container").append(large);
    large.showModal();
    zoomTo(0);
  }

  document.addEventListener("click", onPicture, true);
  document.addEventListener("load", onLoad, true);
  Object.assign(window.sightline, {arranged, isDamaged});
  dressThumbnails();
})();
