CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
CREATE TABLE runs (
	"key" INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	name TEXT NOT NULL, 
	project TEXT, 
	tags JSON NOT NULL, 
	command JSON NOT NULL, 
	cwd TEXT NOT NULL, 
	user TEXT NOT NULL, 
	git_commit TEXT, 
	git_dirty BOOLEAN, 
	scheduler TEXT, 
	cluster TEXT, 
	job_id TEXT, 
	array_index INTEGER, 
	account TEXT, 
	partition TEXT, 
	nodes_expected INTEGER, 
	started_ms BIGINT NOT NULL, 
	facility JSON NOT NULL, 
	model JSON NOT NULL, 
	CONSTRAINT pk_runs PRIMARY KEY ("key"), 
	CONSTRAINT ck_runs_kind CHECK (kind in ('job','watch','imported','stated')), 
	CONSTRAINT uq_runs_id UNIQUE (id)
);
CREATE INDEX ix_runs_name_started_ms ON runs (name, started_ms);
CREATE INDEX ix_runs_started_ms ON runs (started_ms);
CREATE TABLE recordings (
	"key" INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	run_key INTEGER NOT NULL, 
	host TEXT NOT NULL, 
	boot_id TEXT, 
	restart INTEGER NOT NULL, 
	recorder_version TEXT NOT NULL, 
	settings JSON NOT NULL, 
	started_ms BIGINT NOT NULL, 
	ended_ms BIGINT, 
	status TEXT NOT NULL, 
	exit_code INTEGER, 
	heartbeat_ms BIGINT NOT NULL, 
	CONSTRAINT pk_recordings PRIMARY KEY ("key"), 
	CONSTRAINT ck_recordings_status CHECK (status in ('running','completed','failed','interrupted')), 
	CONSTRAINT uq_recordings_id UNIQUE (id), 
	CONSTRAINT fk_recordings_run_key_runs FOREIGN KEY(run_key) REFERENCES runs ("key") ON DELETE CASCADE
);
CREATE INDEX ix_recordings_run_key ON recordings (run_key);
CREATE TABLE clocks (
	recording_key INTEGER NOT NULL, 
	time_ms BIGINT NOT NULL, 
	offset_ms BIGINT NOT NULL, 
	error_ms BIGINT NOT NULL, 
	CONSTRAINT pk_clocks PRIMARY KEY (recording_key, time_ms), 
	CONSTRAINT fk_clocks_recording_key_recordings FOREIGN KEY(recording_key) REFERENCES recordings ("key") ON DELETE CASCADE
);
CREATE TABLE devices (
	"key" INTEGER NOT NULL, 
	uuid TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	name TEXT NOT NULL, 
	mig_parent TEXT, 
	CONSTRAINT pk_devices PRIMARY KEY ("key"), 
	CONSTRAINT uq_devices_uuid UNIQUE (uuid)
);
CREATE TABLE sensors (
	"key" INTEGER NOT NULL, 
	recording_key INTEGER NOT NULL, 
	device_key INTEGER NOT NULL, 
	host TEXT NOT NULL, 
	rated_power_w DOUBLE, 
	power_limit_w DOUBLE, 
	meter TEXT NOT NULL, 
	quality TEXT NOT NULL, 
	field TEXT NOT NULL, 
	scope TEXT NOT NULL, 
	update_period_ms DOUBLE, 
	share DOUBLE NOT NULL, 
	CONSTRAINT pk_sensors PRIMARY KEY ("key"), 
	CONSTRAINT uq_sensors_recording_key UNIQUE (recording_key, device_key), 
	CONSTRAINT fk_sensors_recording_key_recordings FOREIGN KEY(recording_key) REFERENCES recordings ("key") ON DELETE CASCADE, 
	CONSTRAINT fk_sensors_device_key_devices FOREIGN KEY(device_key) REFERENCES devices ("key")
);
CREATE INDEX ix_sensors_device_key ON sensors (device_key);
CREATE TABLE windows (
	recording_key INTEGER NOT NULL, 
	level INTEGER NOT NULL, 
	start_ms BIGINT NOT NULL, 
	sensor_key INTEGER NOT NULL, 
	energy_j DOUBLE, 
	energy_s DOUBLE NOT NULL, 
	sampled_s DOUBLE NOT NULL, 
	samples INTEGER NOT NULL, 
	power_mean_w DOUBLE GENERATED ALWAYS AS (energy_j / nullif(energy_s, 0)) VIRTUAL, 
	power_min_w DOUBLE, 
	power_max_w DOUBLE, 
	vitals INTEGER NOT NULL, 
	util_pct DOUBLE, 
	memory_max_bytes BIGINT, 
	temperature_max_c DOUBLE, 
	sm_clock_mhz DOUBLE, 
	throttle BIGINT NOT NULL, 
	flags INTEGER NOT NULL, 
	CONSTRAINT pk_windows PRIMARY KEY (recording_key, level, start_ms, sensor_key), 
	CONSTRAINT fk_windows_recording_key_recordings FOREIGN KEY(recording_key) REFERENCES recordings ("key") ON DELETE CASCADE
)
 WITHOUT ROWID

;
CREATE TABLE steps (
	recording_key INTEGER NOT NULL, 
	restart INTEGER NOT NULL, 
	step BIGINT NOT NULL, 
	rank INTEGER, 
	time_ms BIGINT NOT NULL, 
	loss DOUBLE, 
	lr DOUBLE, 
	grad_norm DOUBLE, 
	tokens BIGINT, 
	tokens_per_s DOUBLE, 
	extra JSON NOT NULL, 
	CONSTRAINT pk_steps PRIMARY KEY (recording_key, restart, step), 
	CONSTRAINT fk_steps_recording_key_recordings FOREIGN KEY(recording_key) REFERENCES recordings ("key") ON DELETE CASCADE
)
 WITHOUT ROWID

;
CREATE TABLE events (
	recording_key INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	time_ms BIGINT NOT NULL, 
	host TEXT, 
	device_uuid TEXT, 
	kind TEXT NOT NULL, 
	message TEXT NOT NULL, 
	data JSON NOT NULL, 
	CONSTRAINT pk_events PRIMARY KEY (recording_key, number), 
	CONSTRAINT fk_events_recording_key_recordings FOREIGN KEY(recording_key) REFERENCES recordings ("key") ON DELETE CASCADE
);
CREATE TABLE stated (
	run_key INTEGER NOT NULL, 
	device_name TEXT NOT NULL, 
	devices INTEGER, 
	device_hours DOUBLE, 
	power_w DOUBLE, 
	energy_kwh DOUBLE, 
	source TEXT NOT NULL, 
	started_ms BIGINT, 
	ended_ms BIGINT, 
	CONSTRAINT pk_stated PRIMARY KEY (run_key, device_name), 
	CONSTRAINT fk_stated_run_key_runs FOREIGN KEY(run_key) REFERENCES runs ("key") ON DELETE CASCADE
);
CREATE TABLE overlaps (
	sensor_key INTEGER NOT NULL, 
	start_ms BIGINT NOT NULL, 
	energy_j DOUBLE NOT NULL, 
	seconds DOUBLE NOT NULL, 
	CONSTRAINT pk_overlaps PRIMARY KEY (sensor_key, start_ms), 
	CONSTRAINT fk_overlaps_sensor_key_sensors FOREIGN KEY(sensor_key) REFERENCES sensors ("key") ON DELETE CASCADE
)
 WITHOUT ROWID

;
CREATE TABLE amendments (
	id TEXT NOT NULL, 
	run_id TEXT NOT NULL, 
	time_ms BIGINT NOT NULL, 
	user TEXT NOT NULL, 
	field TEXT NOT NULL, 
	"before" JSON NOT NULL, 
	"after" JSON NOT NULL, 
	CONSTRAINT pk_amendments PRIMARY KEY (id)
);
CREATE INDEX ix_amendments_run_id ON amendments (run_id);
CREATE TABLE tombstones (
	run_id TEXT NOT NULL, 
	time_ms BIGINT NOT NULL, 
	user TEXT NOT NULL, 
	project TEXT, 
	CONSTRAINT pk_tombstones PRIMARY KEY (run_id)
);
CREATE TABLE shipped_tombstones (
	run_id TEXT NOT NULL, 
	target TEXT NOT NULL, 
	CONSTRAINT pk_shipped_tombstones PRIMARY KEY (run_id, target), 
	CONSTRAINT fk_shipped_tombstones_run_id_tombstones FOREIGN KEY(run_id) REFERENCES tombstones (run_id) ON DELETE CASCADE
);
CREATE TABLE imports (
	sha256 TEXT NOT NULL, 
	run_key INTEGER NOT NULL, 
	time_ms BIGINT NOT NULL, 
	file TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	tz TEXT, 
	first_row BIGINT NOT NULL, 
	last_row BIGINT NOT NULL, 
	rejected_rows BIGINT NOT NULL, 
	notes JSON NOT NULL, 
	facts JSON NOT NULL, 
	CONSTRAINT pk_imports PRIMARY KEY (sha256, run_key), 
	CONSTRAINT fk_imports_run_key_runs FOREIGN KEY(run_key) REFERENCES runs ("key") ON DELETE CASCADE
);
CREATE INDEX ix_imports_run_key ON imports (run_key);
CREATE TABLE watermarks (
	recording_key INTEGER NOT NULL, 
	target TEXT NOT NULL, 
	seconds_ms BIGINT NOT NULL, 
	minutes_ms BIGINT NOT NULL, 
	hours_ms BIGINT NOT NULL, 
	steps_ms BIGINT NOT NULL, 
	events INTEGER NOT NULL, 
	late INTEGER NOT NULL, 
	shipped_ms BIGINT NOT NULL, 
	CONSTRAINT pk_watermarks PRIMARY KEY (recording_key, target), 
	CONSTRAINT fk_watermarks_recording_key_recordings FOREIGN KEY(recording_key) REFERENCES recordings ("key") ON DELETE CASCADE
);
CREATE TABLE late_minutes (
	recording_key INTEGER NOT NULL, 
	sensor_key INTEGER NOT NULL, 
	start_ms BIGINT NOT NULL, 
	number INTEGER NOT NULL, 
	CONSTRAINT pk_late_minutes PRIMARY KEY (recording_key, sensor_key, start_ms), 
	CONSTRAINT fk_late_minutes_recording_key_recordings FOREIGN KEY(recording_key) REFERENCES recordings ("key") ON DELETE CASCADE
)
 WITHOUT ROWID

;
CREATE TABLE live (
	recording_key INTEGER NOT NULL, 
	heard_ms BIGINT NOT NULL, 
	time_ms BIGINT NOT NULL, 
	sensor_keys JSON NOT NULL, 
	power_w JSON NOT NULL, 
	energy_j JSON NOT NULL, 
	util_pct JSON NOT NULL, 
	CONSTRAINT pk_live PRIMARY KEY (recording_key), 
	CONSTRAINT fk_live_recording_key_recordings FOREIGN KEY(recording_key) REFERENCES recordings ("key") ON DELETE CASCADE
);
CREATE TABLE tokens (
	hash TEXT NOT NULL, 
	project TEXT NOT NULL, 
	made_ms BIGINT NOT NULL, 
	revoked_ms BIGINT, 
	CONSTRAINT pk_tokens PRIMARY KEY (hash)
);
CREATE TABLE intensity (
	zone TEXT NOT NULL, 
	start_ms BIGINT NOT NULL, 
	version TEXT NOT NULL, 
	length_ms BIGINT NOT NULL, 
	intensity_kg_per_kwh DOUBLE NOT NULL, 
	basis TEXT NOT NULL, 
	source TEXT NOT NULL, 
	CONSTRAINT pk_intensity PRIMARY KEY (zone, start_ms, version)
);
CREATE TABLE prices (
	book TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	version TEXT NOT NULL, 
	unit TEXT NOT NULL, 
	price DOUBLE NOT NULL, 
	currency TEXT NOT NULL, 
	as_of TEXT NOT NULL, 
	source TEXT NOT NULL, 
	CONSTRAINT pk_prices PRIMARY KEY (book, "key", version), 
	CONSTRAINT ck_prices_unit CHECK (unit in ('gpu_hour','kwh'))
);
INSERT INTO alembic_version (version_num) VALUES ('1002');
