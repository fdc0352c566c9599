// The hook of a session page. The URL comes from the page.

import { TrackingManager } from "./manager.js";
import { WORDS } from "./words.js";

const { useEffect, useMemo, useState } = React;

export function useAgentTracking(url, clientId, sessionId) {
  const [rows, setRows] = useState([]);
  const manager = useMemo(() => new TrackingManager(url, clientId), [url, clientId]);
  useEffect(() => {
    for (const [type, words] of Object.entries(WORDS)) {
      manager.on(type, (message) => setRows((rows) => [...rows, ...words(message)]));
    }
    manager.connect();
    return () => manager.disconnect();
  }, [manager]);

  const isActive = rows.some((row) => row.startsWith("sessions ") && row.includes(sessionId));
  useEffect(() => {
    if (isActive) manager.openSession(sessionId);
  }, [manager, isActive, sessionId]);
  return rows;
}
