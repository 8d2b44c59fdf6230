CREATE TABLE undecodable_json (id INT PRIMARY KEY, doc JSON);
CREATE TABLE undecodable_json_source (v TINYBLOB);
INSERT INTO undecodable_json VALUES (1, '{}');
INSERT INTO undecodable_json_source VALUES ('a');
