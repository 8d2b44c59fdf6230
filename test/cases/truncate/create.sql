CREATE TABLE truncate_a (id INT AUTO_INCREMENT PRIMARY KEY, v INT);
CREATE TABLE truncate_b (id INT PRIMARY KEY);
INSERT INTO truncate_a (v) VALUES (1), (2), (3);
INSERT INTO truncate_b VALUES (1), (2);
