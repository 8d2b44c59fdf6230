CREATE TABLE create_select_a (id INT PRIMARY KEY, v VARCHAR(20));
INSERT INTO create_select_a VALUES (1, 'a'), (2, 'b');
