CREATE TABLE modify_charset (id INT PRIMARY KEY, v VARCHAR(20), t TEXT, k VARCHAR(10)) CHARACTER SET latin1;
INSERT INTO modify_charset VALUES (1, 'café', 'naïve', 'k'), (2, 'plain', NULL, 'K');
INSERT INTO modify_charset VALUES (4, 'Zürich', 'Größe', 'ö');
