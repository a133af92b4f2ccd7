// Replaces the content by a fresh one every two seconds, and says so when that does not work.
const renewal = document.getElementById("renewal");
let lastGood = Date.now();

async function renew() {
  if (!document.hidden) {
    try {
      const answer = await fetch(location.href, { signal: AbortSignal.timeout(5000) });
      if (!answer.ok) throw new Error(answer.statusText);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      document.querySelector("main").replaceWith(fresh.querySelector("main"));
      document.title = fresh.title;
      lastGood = Date.now();
      renewal.textContent = "";
    } catch {
      const seconds = Math.round((Date.now() - lastGood) / 1000);
      renewal.textContent = `no answer for ${seconds} s; this is the last that was seen`;
    }
  }
  setTimeout(renew, 2000);
}

setTimeout(renew, 2000);
