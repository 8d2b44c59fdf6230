CREATE TABLE minimal_image (id INT PRIMARY KEY, v VARCHAR(20), w INT);
INSERT INTO minimal_image VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3);
