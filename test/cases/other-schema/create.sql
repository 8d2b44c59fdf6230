CREATE TABLE other_schema (id INT PRIMARY KEY, v VARCHAR(20));
CREATE TABLE other_schema_back (id INT PRIMARY KEY, v VARCHAR(20));
INSERT INTO other_schema VALUES (1, 'a');
INSERT INTO other_schema_back VALUES (1, 'a');
