CREATE TABLE rename_a (id INT PRIMARY KEY, v VARCHAR(20));
CREATE TABLE rename_b (id INT PRIMARY KEY, v VARCHAR(20));
CREATE TABLE rename_chain1 (id INT PRIMARY KEY, v INT);
INSERT INTO rename_a VALUES (1, 'a'), (2, 'a');
INSERT INTO rename_b VALUES (2, 'b'), (3, 'b');
INSERT INTO rename_chain1 VALUES (1, 1);
