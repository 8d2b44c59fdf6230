CREATE TABLE create_like_a (id INT PRIMARY KEY, v VARCHAR(20), INDEX (v));
INSERT INTO create_like_a VALUES (1, 'a');
