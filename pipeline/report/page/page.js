// Plays all videos of a group in step: the first one leads.
for (const group of document.querySelectorAll("[data-videos]")) {
  const videos = [...group.querySelectorAll("video")];
  if (videos.length === 0) continue;
  const button = document.createElement("button");
  const lead = videos[0];
  const label = () => { button.textContent = lead.paused ? "Play all in step" : "Pause"; };
  button.type = "button";
  button.addEventListener("click", () => {
    if (lead.paused) for (const video of videos) { video.currentTime = lead.currentTime; video.play(); }
    else for (const video of videos) video.pause();
  });
  lead.addEventListener("play", label);
  lead.addEventListener("pause", label);
  lead.addEventListener("timeupdate", () => {
    for (const video of videos) if (Math.abs(video.currentTime - lead.currentTime) > 0.15) video.currentTime = lead.currentTime;
  });
  label();
  group.prepend(button);
}

// Shows the values of a chart at the pointer or, while the chart has the focus, with the arrow keys.
for (const chart of document.querySelectorAll("svg[data-stops]")) {
  const stops = JSON.parse(chart.dataset.stops);  // x, y or null for all y, text
  if (stops.length === 0) continue;
  const [top, floor] = chart.dataset.axes.split(",");
  const tip = document.createElement("output");
  const here = document.createElementNS(chart.namespaceURI, "path");
  let current = -1;
  tip.className = "tip";
  here.setAttribute("class", "here");
  chart.after(tip);
  chart.append(here);

  const hide = () => { current = -1; tip.textContent = ""; here.removeAttribute("d"); };
  const show = (index) => {
    if (index === current) return;
    const [x, y, text] = stops[current = index];
    const box = chart.getBoundingClientRect();
    const scale = box.width / chart.viewBox.baseVal.width;
    tip.textContent = text;
    here.setAttribute("d", y === null ? `M${x} ${top}V${floor}` : `M${x - 8} ${y}a8 8 0 1 0 16 0a8 8 0 1 0 -16 0z`);
    const left = Math.min(Math.max(x * scale + 12, 0), Math.max(box.width - tip.offsetWidth, 0));
    const wanted = (y === null ? Number(top) : y) * scale + 14;
    tip.style.left = `${left}px`;
    tip.style.top = `${wanted}px`;
  };
  const nearest = (event) => {
    const box = chart.getBoundingClientRect();
    const scale = box.width / chart.viewBox.baseVal.width;
    const [x, y] = [(event.clientX - box.left) / scale, (event.clientY - box.top) / scale];
    const distances = stops.map((stop) => Math.hypot(stop[0] - x, stop[1] === null ? 0 : stop[1] - y));
    return distances.indexOf(Math.min(...distances));
  };
  chart.addEventListener("pointermove", (event) => show(nearest(event)));
  chart.addEventListener("pointerleave", hide);
  chart.addEventListener("blur", hide);
  chart.addEventListener("keydown", (event) => {
    const last = stops.length - 1;
    const next = { ArrowRight: Math.min(current + 1, last), ArrowLeft: Math.max(current - 1, 0), Home: 0, End: last }[event.key];
    if (event.key === "Escape") hide();
    if (next === undefined) return;
    event.preventDefault();
    show(next);
  });
}
