pragma journal_mode=wal; pragma page_size; @
create table t(id integer primary key, name text unique, n real default 1.5, data blob, check(n > -1000)); @
create table big(data); insert into big values(printf('%.*c', 100000, 'x')); @
create table u(t references t(id) on delete cascade, tag text collate nocase, primary key(t, tag)) without rowid; @
create index tn on t(n desc) where n is not null; create index te on t(abs(n), lower(name)); @
create view v as select name, twice(id) as d from t where id % 3 = 0; @
create trigger after_t after insert on t when new.id % 10 = 0 begin insert into u values(new.id, 'tag' || new.id); end; @
pragma foreign_keys=on; begin; @
with recursive c(x) as (values(1) union all select x + 1 from c where x < 3000) insert into t(id, name, n, data) select x, printf('name%05d', x * 7919 % 3001), (x * 31 % 997) / 3.0, zeroblob(x % 50) from c; @
savepoint s; delete from t where id between 100 and 200; rollback to s; release s; commit; @
select count(*), sum(id), avg(n), min(name), max(name), total(length(data)), group_concat(id) from t where id < 20; @
select product(id), count(distinct name) from t where id < 15; @
select id, row_number() over w, sum(n) over (order by id rows between 2 preceding and 1 following), lag(name, 2, 'none') over w, ntile(4) over w, rank() over (partition by id % 3 order by name), first_value(id) over w from t where id < 15 window w as (order by name) order by id; @
select a.id, b.id from t a join t b on b.id = a.id * 2 left join u on u.t = b.id where a.n > 300 and u.tag is null order by a.name collate backwards limit 7 offset 2; @
select id % 7 as g, count(*), round(sum(n), 3) from t group by g having count(*) > 10 order by 3 desc; @
select * from v where d > 5900 union select name, id from t where name like 'name0001%' except select name, id from t where id < 500 order by 1; @
select name from t where name glob 'name0[0-2]*5' and id in (select t from u) intersect select name from t where n < 200; @
explain query plan select * from t where n > 5 order by n desc; @
update t set n = n * 2, name = name || '!' where id in (select t from u where tag like 'TAG1%'); select changes(), total_changes() > 0; @
insert into t(id, name) values(1, 'x') on conflict(id) do update set name = excluded.name || '-' || t.name returning id, name; @
insert or ignore into t(id, name) values(2, 'y'); replace into t(id, name, n) values(5, 'replaced', -5); @
insert into t(id, name, n) values(9999, 'bad', -5000); @
insert into u values(123456, 'no parent'); @
delete from t where id % 10 = 0 returning id, name limit 3; @
delete from t where id % 500 = 0; select count(*) from u; @
select json_extract('{"a":[1,2,{"b":"c"}]}', '$.a[2].b'), json_array(1, 'x', null), json_object('k', json('[1]')), json_type('[1.5]', '$[0]'), json_patch('{"a":1}', '{"b":2}'), json_group_array(id) from t where id < 5; @
select key, value, type from json_each('{"x":1,"y":[2,3],"z":null}'); select path, atom from json_tree('[1,{"a":2}]'); @
select date('2024-02-29', '+1 year'), time(3600, 'unixepoch'), julianday('2000-01-01'), strftime('%Y-%W-%j', '2024-12-31'), datetime('2024-01-31', '+1 month', 'weekday 0'); @
select hex(randomblob(0)), quote(x'0102'), typeof(1.0), cast('12abc' as int), instr('hello', 'l'), substr('hello', -3, 2), replace('aXbX', 'X', '--'), trim('  x '), unicode('€'), char(8364), printf('%08.3f|%,d|%e|%q', 3.14159, 1234567, 1e10, 'it''s'), soundex('x'), nullif(1, 1), coalesce(null, 5), iif(1, 'y', 'n'), upper('aé'), round(2.5), abs(-3), max(1, 'a', null), likely(1), zeroblob(2); @
create virtual table f using fts5(title, body); insert into f values('one', 'the quick brown fox'), ('two', 'jumps over the lazy dog'), ('three', 'quick quick dog'); @
select title, highlight(f, 1, '[', ']'), snippet(f, 1, '<', '>', '...', 4) from f where f match 'quick OR dog' order by bm25(f), title; @
create virtual table r using rtree(id, x0, x1, y0, y1); insert into r select id, id, id + 5, id * 2, id * 2 + 5 from t where id < 300; select id from r where x0 > 10 and x1 < 30 and y0 > 30; @
select abs(-9223372036854775808); @
select * from nowhere; @
select 1 +; @
create table g(a int, b int generated always as (a * 2) stored, c as (a + 1) virtual) strict; insert into g(a) values(1), (5); select * from g; insert into g(a) values('no'); @
alter table g add column d text default 'dd'; alter table g rename column a to aa; alter table g drop column d; select sql from sqlite_schema where name = 'g'; @
analyze; reindex; pragma integrity_check; pragma foreign_key_check; pragma table_info(t); pragma index_list(t); vacuum; @
attach ':memory:' as m; create table m.x as select * from t where id < 4; select id, name from m.x; detach m; @
explain select sum(n) from t where id > 5; @
select count(*) from t a, t b where a.id < 150 and b.id < 150 and a.n + b.n > 400; @
drop view v; drop trigger after_t; drop table u; drop index te; pragma wal_checkpoint(truncate); select count(*) from sqlite_schema;
