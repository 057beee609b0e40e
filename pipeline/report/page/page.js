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
