BEGIN TRANSACTION;
CREATE TABLE "adjustments" (
   "number" INTEGER PRIMARY KEY,
   "id" TEXT,
   "at" TEXT,
   "call_id" TEXT,
   "scope_kind" TEXT,
   "scope_id" TEXT,
   "amount_usd" TEXT,
   "amount_nano" INTEGER,
   "reason" TEXT,
   "actor" TEXT,
   "policy_revision" TEXT,
   "idempotency_key" TEXT,
   "virtual_key_id" TEXT,
   "user_id" TEXT,
   "team_id" TEXT,
   "customer_id" TEXT,
   "project_id" TEXT,
   "provider" TEXT,
   "charges" TEXT
);
CREATE TABLE "admin_audit" (
   "id" INTEGER PRIMARY KEY,
   "at" TEXT,
   "who" TEXT,
   "action" TEXT,
   "entity_kind" TEXT,
   "entity_id" TEXT,
   "before" TEXT,
   "after" TEXT,
   "revision_before" TEXT,
   "revision_after" TEXT
);
CREATE TABLE "alerts" (
   "alert_id" TEXT,
   "webhook" TEXT,
   "at" INTEGER,
   "resets_at" INTEGER,
   "body" TEXT,
   "status" TEXT,
   "attempts" INTEGER,
   "sent_at" INTEGER,
   PRIMARY KEY ("alert_id", "webhook")
);
CREATE TABLE "alerts_passed" (
   "counter" TEXT,
   "window_start" INTEGER,
   "threshold" INTEGER,
   PRIMARY KEY ("counter", "window_start")
);
CREATE TABLE "calls" (
   "id" TEXT PRIMARY KEY,
   "started_at" TEXT,
   "latency_ms" INTEGER,
   "ttft_ms" INTEGER,
   "virtual_key_id" TEXT,
   "user_id" TEXT,
   "team_id" TEXT,
   "customer_id" TEXT,
   "project_id" TEXT,
   "session_id" TEXT,
   "agent_id" TEXT,
   "provider" TEXT,
   "model_requested" TEXT,
   "model_served" TEXT,
   "stream" INTEGER,
   "status" INTEGER,
   "outcome" TEXT,
   "reason" TEXT,
   "input_tokens" INTEGER,
   "output_tokens" INTEGER,
   "cache_read_tokens" INTEGER,
   "cache_write_5m_tokens" INTEGER,
   "cache_write_1h_tokens" INTEGER,
   "cost_usd" TEXT,
   "cost_nano" INTEGER,
   "estimated" INTEGER,
   "policy_revision" TEXT,
   "request_bytes" INTEGER,
   "response_bytes" INTEGER,
   "user_agent" TEXT,
   "path" TEXT,
   "web_search_requests" INTEGER,
   "limits" TEXT,
   "file_search_requests" INTEGER,
   "code_interpreter_sessions" INTEGER,
   "route" TEXT,
   "attempts" TEXT,
   "asked_model" TEXT,
   "shadow_usd" TEXT,
   "shadow_nano" INTEGER,
   "client_address" TEXT,
   "message" TEXT,
   "labels" TEXT,
   "project_source" TEXT,
   "claimed_project" TEXT
);
INSERT INTO "calls" VALUES('call_01a21e10619c3636887bd055a012','2026-11-27T17:31:59.772Z',265,235,'vk-alice',NULL,'eng',NULL,NULL,NULL,NULL,'anthropic','claude-opus-4-6','claude-opus-4-6',0,200,'completed',NULL,0,10000,0,0,0,'0.25',250000000,0,'80979be91c85',108,419,'curl/7.88.1','/v1/messages',0,'[["virtual_key","vk-alice","usd","1M","soft",50000000000,0,0,1810000,1798392719857,true],["team","eng","usd","1M","soft",500000000000,0,0,1810000,1798392719857,true]]',0,0,NULL,NULL,NULL,NULL,NULL,'127.0.0.1',NULL,NULL,NULL,NULL);
INSERT INTO "calls" VALUES('call_01a21e10632864882fcd41c3e61e','2026-11-27T17:32:00.168Z',45,45,'vk-alice',NULL,'eng',NULL,NULL,NULL,NULL,'anthropic','claude-opus-4-6','claude-opus-4-6',0,200,'completed',NULL,0,10000,0,0,0,'0.25',250000000,0,'80979be91c85',108,419,'curl/7.88.1','/v1/messages',0,'[["virtual_key","vk-alice","usd","1M","soft",50000000000,250000000,0,1810000,1798392719857,true],["team","eng","usd","1M","soft",500000000000,250000000,0,1810000,1798392719857,true]]',0,0,NULL,NULL,NULL,NULL,NULL,'127.0.0.1',NULL,NULL,NULL,NULL);
INSERT INTO "calls" VALUES('call_01a21e1063b9bbac3893d5025fa8','2026-11-27T17:32:00.313Z',34,34,'vk-alice',NULL,'eng',NULL,NULL,NULL,NULL,'anthropic','claude-opus-4-6','claude-opus-4-6',0,200,'completed',NULL,0,10000,0,0,0,'0.25',250000000,0,'80979be91c85',108,419,'curl/7.88.1','/v1/messages',0,'[["virtual_key","vk-alice","usd","1M","soft",50000000000,500000000,0,1810000,1798392719857,true],["team","eng","usd","1M","soft",500000000000,500000000,0,1810000,1798392719857,true]]',0,0,NULL,NULL,NULL,NULL,NULL,'127.0.0.1',NULL,NULL,NULL,NULL);
INSERT INTO "calls" VALUES('call_01a21e135aa061596b97ec86f986','2026-11-27T17:35:14.592Z',194,192,'vk-alice',NULL,'eng',NULL,NULL,NULL,NULL,'anthropic','claude-opus-4-6','claude-opus-4-6',0,200,'completed',NULL,0,10000,0,0,0,'0.25',250000000,0,'80979be91c85',108,419,'curl/7.88.1','/v1/messages',0,'[["virtual_key","vk-alice","usd","1M","soft",50000000000,750000000,0,1810000,1798392719857,true],["team","eng","usd","1M","soft",500000000000,750000000,0,1810000,1798392719857,true]]',0,0,NULL,NULL,NULL,NULL,NULL,'127.0.0.1',NULL,NULL,NULL,NULL);
CREATE TABLE "connections" (
   "id" TEXT PRIMARY KEY,
   "started_at" TEXT,
   "latency_ms" INTEGER,
   "virtual_key_id" TEXT,
   "user_id" TEXT,
   "source" TEXT,
   "host" TEXT,
   "port" INTEGER,
   "request_bytes" INTEGER,
   "response_bytes" INTEGER,
   "outcome" TEXT,
   "reason" TEXT
);
CREATE TABLE "counters" (
   "name" TEXT PRIMARY KEY,
   "anchor" INTEGER,
   "window_start" INTEGER,
   "window_end" INTEGER,
   "used" INTEGER
, "before_start" INTEGER, "before_end" INTEGER, "before_used" INTEGER);
INSERT INTO "counters" VALUES('virtual_key/vk-alice/usd/1M',1795800719857,1795800719857,1798392719857,1000000000,NULL,NULL,NULL);
INSERT INTO "counters" VALUES('team/eng/usd/1M',1795800719857,1795800719857,1798392719857,1000000000,NULL,NULL,NULL);
CREATE TABLE "learned" (
   "virtual_key_id" TEXT NOT NULL,
   "model" TEXT NOT NULL,
   "outputs" TEXT NOT NULL,
   "prompt_tokens" REAL NOT NULL DEFAULT 0,
   "prompt_bytes" REAL NOT NULL DEFAULT 0,
   "prompt_samples" INTEGER NOT NULL DEFAULT 0,
   "delivered_characters" REAL NOT NULL DEFAULT 0,
   "delivered_tokens" REAL NOT NULL DEFAULT 0,
   "delivered_samples" INTEGER NOT NULL DEFAULT 0,
   "speed_tokens" REAL NOT NULL DEFAULT 0,
   "speed_ms" REAL NOT NULL DEFAULT 0,
   "speed_samples" INTEGER NOT NULL DEFAULT 0,
   PRIMARY KEY ("virtual_key_id", "model")
);
INSERT INTO "learned" VALUES('vk-alice','claude-opus-4-6','[]',0.0,0.0,0,0.0,0.0,0,19500.0,305.45,2);
INSERT INTO "learned" VALUES('','claude-opus-4-6','[]',0.0,0.0,0,0.0,0.0,0,19500.0,305.45,2);
CREATE TABLE "meta" (
   "name" TEXT PRIMARY KEY,
   "value" INTEGER
);
INSERT INTO "meta" VALUES('journal_offset',4560);
INSERT INTO "meta" VALUES('journal_fingerprint',7373271780587851335);
INSERT INTO "meta" VALUES('calls_rowid',4);
INSERT INTO "meta" VALUES('adjustments_number',0);
CREATE TABLE "policy_revisions" (
   "id" INTEGER PRIMARY KEY,
   "revision" TEXT,
   "at" TEXT,
   "who" TEXT,
   "action" TEXT,
   "summary" TEXT,
   "files" BLOB
);
CREATE TABLE "reconciliations" (
   "number" INTEGER PRIMARY KEY,
   "at" TEXT,
   "provider" TEXT,
   "actor" TEXT,
   "first_day" TEXT,
   "last_day" TEXT,
   "result" TEXT
);
CREATE TABLE "refusals" (
   "minute" TEXT,
   "source" TEXT,
   "reason" TEXT,
   "count" INTEGER,
   PRIMARY KEY ("minute", "source", "reason")
);
CREATE TABLE "reservations" (
   "number" INTEGER PRIMARY KEY,
   "call_id" TEXT,
   "at" INTEGER,
   "claims" TEXT,
   "draft" TEXT
);
CREATE INDEX "idx_calls_started_at"
    ON "calls" ("started_at");
CREATE INDEX "idx_calls_virtual_key_id_started_at"
    ON "calls" ("virtual_key_id", "started_at");
CREATE TRIGGER admin_audit_no_update BEFORE UPDATE ON admin_audit BEGIN SELECT raise(ABORT, 'the trail of administration is append-only'); END;
CREATE TRIGGER admin_audit_no_delete BEFORE DELETE ON admin_audit BEGIN SELECT raise(ABORT, 'the trail of administration is append-only'); END;
CREATE INDEX "idx_policy_revisions_revision"
    ON "policy_revisions" ("revision");
CREATE UNIQUE INDEX "idx_adjustments_id"
    ON "adjustments" ("id");
CREATE INDEX "idx_adjustments_call_id"
    ON "adjustments" ("call_id");
CREATE INDEX "idx_adjustments_idempotency_key"
    ON "adjustments" ("idempotency_key");
COMMIT;
PRAGMA user_version = 17;
