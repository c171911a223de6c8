-- Two runs as schema 0001 held them, for SQLite and PostgreSQL alike; into empty tables, so that keys
-- count from 1. `old-good` used 7200 J on two GPUs in ten seconds and logged two steps; `old-lost` was
-- cut off with nothing measured.
insert into runs (id, name, tags, command, cwd, "user", started_ms, ended_ms, status, exit_code, facility, model)
values
  ('01970001-aaaa-7bbb-8ccc-000000000001', 'old-good', '{"team": "nlp"}', '["python", "train.py"]',
   '/job', 'ada', 1779998400000, 1779998410000, 'completed', 0, '{}', '{"name": "tiny"}'),
  ('01970002-aaaa-7bbb-8ccc-000000000002', 'old-lost', '{}', '["python", "train.py"]',
   '/job', 'ada', 1780000000000, null, 'running', null, '{}', '{}');

insert into nodes (run_key, host, recorder_version, settings, heartbeat_ms)
values
  (1, 'node1', '0.1.0', '{"meter": "nvml"}', 1779998410000),
  (2, 'node1', '0.1.0', '{"meter": "nvml"}', 1780000001500);

insert into devices (uuid, kind, name, rated_power_w, power_limit_w)
values
  ('GPU-1', 'gpu', 'NVIDIA A100-SXM4-80GB', 400, 400),
  ('GPU-2', 'gpu', 'NVIDIA A100-SXM4-80GB', 400, 400);

insert into sensors (run_key, device_key, host, meter, quality, field, scope, update_period_ms, share)
select run.key, device.key, 'node1', 'nvml', 'counter', 'total_energy', 'gpu', 100, 1
from runs as run, devices as device;

with recursive second (n) as (select 0 union all select n + 1 from second where n < 9),
part (level, start_ms, length_s) as (
  select 1, 1779998400000 + 1000 * n, 1 from second
  union all select 60, 1779998400000, 10
  union all select 3600, 1779998400000, 10
)
insert into windows (run_key, level, device_key, start_ms, energy_j, energy_s, sampled_s, samples,
                     power_min_w, power_max_w, vitals, util_pct, throttle, flags)
select 1, level, device.key, start_ms, 360 * length_s, length_s, length_s, 10 * length_s,
       350, 370, length_s, 97, 0, 1
from part, devices as device;

insert into steps (run_key, step, time_ms, loss, lr, tokens, tokens_per_s, extra)
values
  (1, 1, 1779998405000, 4.0, 0.001, 1024, 204.8, '{}'),
  (1, 2, 1779998410000, 2.0, 0.001, 1024, 204.8, '{"epoch": 1}');

insert into events (run_key, time_ms, seq, host, kind, message, data)
values (1, 1779998409000, 0, 'node1', 'eval', 'held out', '{"loss": 2.5}');
