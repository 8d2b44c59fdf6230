CREATE TABLE change_key (id INT, code VARCHAR(10), v INT, PRIMARY KEY (id));
INSERT INTO change_key VALUES (1, 'a', 1), (2, 'b', 2);
