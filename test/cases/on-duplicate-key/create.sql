CREATE TABLE on_duplicate_key (id INT AUTO_INCREMENT PRIMARY KEY, code VARCHAR(10) UNIQUE, n INT);
INSERT INTO on_duplicate_key VALUES (1, 'a', 1), (2, 'b', 2);
