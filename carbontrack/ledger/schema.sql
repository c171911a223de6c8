CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
CREATE TABLE runs (
	"key" INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	project TEXT, 
	tags JSON NOT NULL, 
	command JSON NOT NULL, 
	cwd TEXT NOT NULL, 
	user TEXT NOT NULL, 
	git_commit TEXT, 
	git_dirty BOOLEAN, 
	started_ms BIGINT NOT NULL, 
	ended_ms BIGINT, 
	status TEXT NOT NULL, 
	exit_code INTEGER, 
	facility JSON NOT NULL, 
	model JSON NOT NULL, 
	CONSTRAINT pk_runs PRIMARY KEY ("key"), 
	CONSTRAINT ck_runs_status CHECK (status in ('running','completed','failed','interrupted')), 
	CONSTRAINT uq_runs_id UNIQUE (id)
);
CREATE INDEX ix_runs_name_started_ms ON runs (name, started_ms);
CREATE INDEX ix_runs_started_ms ON runs (started_ms);
CREATE TABLE nodes (
	run_key INTEGER NOT NULL, 
	host TEXT NOT NULL, 
	boot_id TEXT, 
	recorder_version TEXT NOT NULL, 
	settings JSON NOT NULL, 
	heartbeat_ms BIGINT NOT NULL, 
	clock_offset_ms BIGINT, 
	CONSTRAINT pk_nodes PRIMARY KEY (run_key, host), 
	CONSTRAINT fk_nodes_run_key_runs FOREIGN KEY(run_key) REFERENCES runs ("key") ON DELETE CASCADE
);
CREATE TABLE devices (
	"key" INTEGER NOT NULL, 
	uuid TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	name TEXT NOT NULL, 
	rated_power_w DOUBLE, 
	power_limit_w DOUBLE, 
	mig_parent TEXT, 
	CONSTRAINT pk_devices PRIMARY KEY ("key"), 
	CONSTRAINT uq_devices_uuid UNIQUE (uuid)
);
CREATE TABLE sensors (
	run_key INTEGER NOT NULL, 
	device_key INTEGER NOT NULL, 
	host TEXT NOT NULL, 
	meter TEXT NOT NULL, 
	quality TEXT NOT NULL, 
	field TEXT NOT NULL, 
	scope TEXT NOT NULL, 
	update_period_ms DOUBLE, 
	share DOUBLE NOT NULL, 
	CONSTRAINT pk_sensors PRIMARY KEY (run_key, device_key), 
	CONSTRAINT fk_sensors_run_key_runs FOREIGN KEY(run_key) REFERENCES runs ("key") ON DELETE CASCADE, 
	CONSTRAINT fk_sensors_device_key_devices FOREIGN KEY(device_key) REFERENCES devices ("key")
);
CREATE TABLE windows (
	run_key INTEGER NOT NULL, 
	level INTEGER NOT NULL, 
	device_key INTEGER NOT NULL, 
	start_ms BIGINT NOT NULL, 
	energy_j DOUBLE, 
	energy_s DOUBLE NOT NULL, 
	sampled_s DOUBLE NOT NULL, 
	samples INTEGER NOT NULL, 
	power_mean_w DOUBLE GENERATED ALWAYS AS (energy_j / nullif(energy_s, 0)) STORED, 
	power_min_w DOUBLE, 
	power_max_w DOUBLE, 
	vitals INTEGER NOT NULL, 
	util_pct DOUBLE, 
	memory_max_bytes BIGINT, 
	temperature_max_c DOUBLE, 
	sm_clock_mhz DOUBLE, 
	throttle BIGINT NOT NULL, 
	flags INTEGER NOT NULL, 
	CONSTRAINT pk_windows PRIMARY KEY (run_key, level, device_key, start_ms), 
	CONSTRAINT fk_windows_run_key_runs FOREIGN KEY(run_key) REFERENCES runs ("key") ON DELETE CASCADE, 
	CONSTRAINT fk_windows_device_key_devices FOREIGN KEY(device_key) REFERENCES devices ("key")
)
 WITHOUT ROWID

;
CREATE TABLE steps (
	run_key INTEGER NOT NULL, 
	step BIGINT NOT NULL, 
	time_ms BIGINT NOT NULL, 
	loss DOUBLE, 
	lr DOUBLE, 
	grad_norm DOUBLE, 
	tokens BIGINT, 
	tokens_per_s DOUBLE, 
	extra JSON NOT NULL, 
	CONSTRAINT pk_steps PRIMARY KEY (run_key, step), 
	CONSTRAINT fk_steps_run_key_runs FOREIGN KEY(run_key) REFERENCES runs ("key") ON DELETE CASCADE
)
 WITHOUT ROWID

;
CREATE TABLE events (
	run_key INTEGER NOT NULL, 
	time_ms BIGINT NOT NULL, 
	seq INTEGER NOT NULL, 
	host TEXT, 
	device_uuid TEXT, 
	kind TEXT NOT NULL, 
	message TEXT NOT NULL, 
	data JSON NOT NULL, 
	CONSTRAINT pk_events PRIMARY KEY (run_key, time_ms, seq), 
	CONSTRAINT fk_events_run_key_runs FOREIGN KEY(run_key) REFERENCES runs ("key") ON DELETE CASCADE
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
INSERT INTO alembic_version (version_num) VALUES ('0002');
