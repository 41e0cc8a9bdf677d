async () => {
  // Uses the page as a reader would, and says what it saw.
  const pause = () => new Promise((go) => setTimeout(go, 60));
  const $ = (query) => document.querySelector(query);
  const set = async (id, value) => {
    const node = document.getElementById(id);
    if (node.type === "checkbox") { if (node.checked !== value) node.click(); }
    else { node.value = value; node.dispatchEvent(new Event(node.tagName === "SELECT" ? "change" : "input")); }
    await pause();
  };
  const chart = () => $("#overview .chart");
  const lines = () => chart().dataset.lines.split("|");
  const rows = (node = chart()) => [...node.querySelectorAll(".tip div")].map((row) => [...row.children].map((cell) => cell.textContent));
  const key = (name) => chart().dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
  let place;
  const read = async (presses, name = "ArrowRight") => {
    chart().blur(); chart().focus();
    for (let i = 0; i < presses; i++) key(name);
    await pause();
    const said = rows();
    place = chart().querySelectorAll(".u-cursor-pt")[3].style.transform;
    chart().blur();
    return said;
  };
  const hex = (colour) => "#" + colour.match(/\d+/g).slice(0, 3).map((v) => (+v).toString(16).padStart(2, "0")).join("");
  const mouse = (over, type, share) => {
    const box = over.getBoundingClientRect();
    over.dispatchEvent(new MouseEvent(type, { bubbles: true, clientX: box.left + share * box.width, clientY: box.top + 40, movementX: 1, button: 0 }));
  };
  const said = { lines: {}, read: {}, legend: {} };
  await pause();

  const style = getComputedStyle(document.body);
  said.colours = [hex(style.backgroundColor), hex(style.color)];
  said.width = [document.documentElement.scrollWidth, innerWidth];
  said.smallest = Math.min(...[...document.querySelectorAll("body *")].filter((n) => n.childElementCount === 0 && n.textContent.trim()).map((n) => parseFloat(getComputedStyle(n).fontSize)));
  said.verdicts = document.querySelectorAll(".verdicts li").length;
  said.bottom = chart().getBoundingClientRect().bottom;
  said.names = [...document.querySelectorAll("#legend button")].map((b) => [...b.querySelectorAll("span, small")].map((n) => n.textContent).join(" "));
  said.label = chart().getAttribute("aria-label");
  const canvas = chart().querySelector("canvas"), pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  said.drawn = {};
  for (let i = 0; i < pixels.length; i += 4) if (pixels[i + 3] === 255) {
    const colour = hex(`${pixels[i]} ${pixels[i + 1]} ${pixels[i + 2]}`);
    said.drawn[colour] = (said.drawn[colour] || 0) + 1;
  }
  said.drawn = Object.fromEntries(Object.entries(said.drawn).filter((each) => each[1] > 100));

  said.lines.mean = lines(); said.legend.mean = document.querySelectorAll("#legend button").length;
  await set("mean", false);
  said.lines.each = lines(); said.legend.each = document.querySelectorAll("#legend button").length;
  said.swatches = [...document.querySelectorAll("#legend svg")].map((svg) => svg.getAttribute("class") + svg.innerHTML);

  $("#legend button").click(); await pause();
  said.lines.hidden = lines();
  said.pressed = [...document.querySelectorAll("#legend button")].slice(0, 2).map((b) => b.getAttribute("aria-pressed"));
  $("#legend button").click(); await pause();
  said.lines.again = lines();

  said.read.keys = await read(2);
  await set("smooth", 0);
  said.read.raw = await read(2);
  said.places = [place];
  await set("log", true);
  await read(2);
  said.places.push(place);
  await set("log", false);
  await set("x", "tokens"); said.read.tokens = await read(2);
  await set("x", "hours"); said.read.hours = await read(2);
  await set("x", "step"); await set("smooth", 4);

  const over = () => chart().querySelector(".u-over");
  chart().focus();
  mouse(over(), "mouseenter", 0.5); mouse(over(), "mousemove", 0.5); await pause();
  said.read.pointer = rows();
  mouse(over(), "mouseleave", 0.5); chart().blur(); await pause();
  said.read.left = document.querySelectorAll(".tip").length;

  const hidden = () => $("#reset").hidden;
  mouse(over(), "mouseenter", 0.25); mouse(over(), "mousemove", 0.25); mouse(over(), "mousedown", 0.25);
  mouse(over(), "mousemove", 0.5); mouse(over(), "mouseup", 0.5); await pause();
  said.zoomed = { first: await read(250, "ArrowLeft"), button: [hidden()] };
  const reward = document.querySelectorAll("#overview .chart")[1];
  reward.focus(); for (let i = 0; i < 250; i++) reward.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft" })); await pause();
  said.zoomed.other = rows(reward)[0]; reward.blur();
  $("#reset").click(); await pause();
  said.zoomed.button.push(hidden());
  said.read.reset = await read(1);

  let name;
  const blobs = [];
  URL.createObjectURL = (blob) => { blobs.push(blob); return "#"; };
  HTMLAnchorElement.prototype.click = function () { name = this.download; };
  $("#overview .csv").click();
  said.csv = [name, ...(await blobs[0].text()).trim().split("\n")];
  return said;
}
