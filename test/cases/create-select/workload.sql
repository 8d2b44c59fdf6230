CREATE TABLE create_select_b (id INT PRIMARY KEY) SELECT id, CONCAT(v, v) AS vv FROM create_select_a;
INSERT INTO create_select_b VALUES (3, 'later');
CREATE TABLE create_select_c (PRIMARY KEY (id)) AS SELECT * FROM create_select_a WHERE 1 = 0;
INSERT INTO create_select_c VALUES (9, 'nine');
-- @only mariadb
CREATE OR REPLACE TABLE create_select_b (id INT PRIMARY KEY) SELECT id + 10 AS id, v AS vv FROM create_select_a;
CREATE OR REPLACE TABLE create_select_c (id INT PRIMARY KEY, v VARCHAR(20));
INSERT INTO create_select_c VALUES (10, 'ten');
