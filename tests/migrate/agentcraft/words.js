// What the pages of this folder show of each message, as one line of text.

export const WORDS = {
  open: () => ["socket open"],
  close: ({ code, reason }) => [`socket closed ${code} ${reason}`],
  active_sessions: ({ data }) => [["sessions", data.total_sessions, ...data.sessions.map((one) => one.session_id)].join(" ")],
  agent_status: ({ agent_name, status, progress }) => [`agent ${agent_name} ${status} ${progress}`],
  agent_collaboration: ({ primary_agent, secondary_agent }) => [`collaboration ${primary_agent} ${secondary_agent}`],
  session_state: ({ session_id, state }) => [`state ${session_id} ${state.current_phase} ${state.overall_progress}`],
  session_logs: ({ session_id, logs }) => logs.map((line) => `log ${session_id} ${line.level} ${line.message}`),
  error: ({ code }) => [`error ${code}`],
};
